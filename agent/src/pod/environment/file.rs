//! Files of variables (KEP-3721): `NAME='value'`, the value literal and possibly of
//! several lines; blank lines and lines that begin with `#` do not count. Pure.

/// The value of `key`; `None` where the file does not name it. The first one counts.
pub fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut rest = text;
    let mut line = 1;
    let mut found = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(first) = rest.chars().next() else {
            return Ok(found);
        };
        if first == '\n' || first == '\r' {
            line += usize::from(first == '\n');
            rest = &rest[1..];
            continue;
        }
        if first == '#' {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let bad = |what: &str| format!("line {line}: {what}");
        let (name, tail) = rest.split_once('=').ok_or_else(|| bad("no '='"))?;
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad("no name before the '='"));
        }
        let tail = tail.trim_start_matches([' ', '\t']);
        let quoted = tail
            .strip_prefix('\'')
            .ok_or_else(|| bad("a value stands in single quotes"))?;
        let (value, after) = quoted.split_once('\'').ok_or_else(|| bad("the quote does not end"))?;
        let after = after.trim_start_matches([' ', '\t', '\r']);
        if !(after.is_empty() || after.starts_with('\n')) {
            return Err(bad("something follows the value"));
        }
        if name == key && found.is_none() {
            found = Some(value.to_owned());
        }
        line += value.matches('\n').count();
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax() {
        for (text, expected) in [
            ("A='1'\n", Ok(Some("1"))),
            (
                "# A='0'\n\n  A = 'x # $B \\n \"q\"' \r\nA='2'",
                Ok(Some("x # $B \\n \"q\"")),
            ),
            ("B='two\nlines'\nA=''", Ok(Some(""))),
            ("B='two\nA=lines'\n", Ok(None)),
            ("", Ok(None)),
            ("A=1\n", Err("line 1: a value stands in single quotes")),
            ("\nA=\"1\"\n", Err("line 2: a value stands in single quotes")),
            ("A='1''2'", Err("line 1: something follows the value")),
            ("A='1'$B", Err("line 1: something follows the value")),
            ("A='1", Err("line 1: the quote does not end")),
            ("export A='1'", Err("line 1: no name before the '='")),
            ("A", Err("line 1: no '='")),
            ("='1'", Err("line 1: no name before the '='")),
        ] {
            let expected = expected.map(|v| v.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(value(text, "A"), expected, "{text:?}");
        }
    }
}
