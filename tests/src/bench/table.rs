//! The one table of figures. Pure.

use std::fmt::{self, Display};

/// One figure, beside what it should be and what upstream's components reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    figure: String,
    value: String,
    aim: String,
    met: Option<bool>,
    upstream: String,
}

impl Row {
    pub fn new(figure: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            figure: figure.into(),
            value: value.into(),
            ..Self::default()
        }
    }

    pub fn aim(mut self, aim: impl Into<String>, met: bool) -> Self {
        self.aim = aim.into();
        self.met = Some(met);
        self
    }

    pub fn upstream(mut self, upstream: impl Into<String>) -> Self {
        self.upstream = upstream.into();
        self
    }

    fn cells(&self) -> [&str; 5] {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        [&self.figure, &self.value, &self.aim, met, &self.upstream]
    }
}

/// What was measured, in the order of measuring.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Row>,
}

impl Table {
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }
}

const TITLES: [&str; 5] = ["figure", "value", "aim", "met", "upstream"];

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.header {
            writeln!(f, "{line}")?;
        }
        let mut widths = TITLES.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row.cells()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = |cells: [&str; 5]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", padded.join("  ").trim_end())
        };
        line(TITLES)?;
        line(widths.map(|width| "-".repeat(width)).each_ref().map(String::as_str))?;
        for row in &self.rows {
            line(row.cells())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let table = Table {
            header: vec!["machine: small".into()],
            rows: vec![
                Row::new("a", "1 s").aim("< 2 s", true).upstream("3 s"),
                Row::new("longer", "123"),
                Row::new("bad", "9 s").aim("< 2 s", false),
            ],
        };
        let expected = "\
machine: small
figure  value  aim    met  upstream
------  -----  -----  ---  --------
a       1 s    < 2 s  yes  3 s
longer  123
bad     9 s    < 2 s  NO
";
        assert_eq!(table.to_string(), expected);
    }
}
