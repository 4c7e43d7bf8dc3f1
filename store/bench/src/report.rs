//! The table: a figure, etcd's, ours, and how many times etcd's ours is.

use crate::Plan;
use anyhow::Result;
use std::fmt;
use std::process::Command;
use std::time::Duration;

#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<[String; 5]>,
}

/// Is more of it better?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|o| {
        String::from_utf8_lossy(&o.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    text.unwrap_or_else(|_| "unknown".into())
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Three digits are what it is worth.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => {
            let digits = format!("{v:.0}");
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Table {
    pub fn new(plan: &Plan) -> Result<Table> {
        let etcd = said(&plan.etcd.to_string_lossy(), &["--version"]);
        let build = if cfg!(debug_assertions) {
            "DEBUG BUILD"
        } else {
            "release build"
        };
        let cores = std::thread::available_parallelism()?;
        let head = vec![
            format!(
                "commit {}, {build}, {etcd}, {}",
                said("git", &["rev-parse", "--short", "HEAD"]),
                said("date", &["-u", "+%FT%TZ"])
            ),
            format!(
                "{cores} processors, shared with the load generator; data in {}",
                plan.dir.display()
            ),
            format!("load (1, 5, 15 min) before: {}", load()),
        ];
        Ok(Table { head, rows: Vec::new() })
    }

    pub fn finish(&mut self) {
        self.head.push(format!("load (1, 5, 15 min) after: {}", load()));
    }

    fn push(&mut self, row: [String; 5]) {
        eprintln!("{}", row.join("  "));
        self.rows.push(row);
    }

    /// One figure of both; `aim` is how many times etcd's ours should be at least (or at most).
    pub fn both(&mut self, figure: impl Into<String>, values: [f64; 2], aim: Option<(Better, f64)>) {
        let [etcd, ours] = values;
        let times = ours / etcd;
        let judged = match aim {
            None => String::new(),
            Some((Better::More, least)) => format!(">= {least}: {}", if times >= least { "yes" } else { "NO" }),
            Some((Better::Less, most)) => format!("<= {most}: {}", if times <= most { "yes" } else { "NO" }),
        };
        let cells = [number(etcd), number(ours), format!("{times:.2}"), judged];
        let [a, b, c, d] = cells;
        self.push([figure.into(), a, b, c, d]);
    }

    /// One figure of ours alone.
    pub fn ours(&mut self, figure: impl Into<String>, value: f64, aim: Option<(Better, f64)>) {
        let judged = match aim {
            None => String::new(),
            Some((Better::More, least)) => {
                format!(">= {}: {}", number(least), if value >= least { "yes" } else { "NO" })
            }
            Some((Better::Less, most)) => format!("<= {}: {}", number(most), if value <= most { "yes" } else { "NO" }),
        };
        self.push([figure.into(), String::new(), number(value), String::new(), judged]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let titles = ["figure", "etcd", "skiff", "times", "aim"].map(str::to_owned);
        let rows: Vec<&[String; 5]> = std::iter::once(&titles).chain(&self.rows).collect();
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4].map(width);
        for row in rows {
            let [w0, w1, w2, w3, _] = widths;
            writeln!(
                f,
                "{:<w0$}  {:>w1$}  {:>w2$}  {:>w3$}  {}",
                row[0], row[1], row[2], row[3], row[4]
            )?;
        }
        Ok(())
    }
}
