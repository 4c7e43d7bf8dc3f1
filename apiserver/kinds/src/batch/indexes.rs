//! Sets of completion indexes as text: `1,3-5,7`.

/// How many indexes the text names, below `completions` and rising.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let mut last = None;
    let mut total = 0;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let ends: Vec<&str> = part.split('-').collect();
    let number = |text: &str| -> Result<i64, String> {
        let n: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if n >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(n)
    };
    match ends[..] {
        [one] => number(one).map(|n| (n, n)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

/// The first index that both name; what is no interval is passed over.
pub(super) fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let intervals =
        |text: &str| -> Vec<(i64, i64)> { text.split(',').filter_map(|p| interval(p, completions).ok()).collect() };
    let (done, lost) = (intervals(completed), intervals(failed));
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (done.get(i), lost.get(j)) {
        if a.0 <= b.1 && b.0 <= a.1 {
            return Some(a.0.max(b.0));
        }
        if a.0 <= b.0 {
            i += 1;
        } else {
            j += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, why) in [
            ("1-2-3", "the fragment \"1-2-3\" violates"),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("5", "too large index: \"5\""),
            ("2-1", "non-increasing order, previous: 2, current: 1"),
            ("3,1", "non-increasing order, previous: 3, current: 1"),
        ] {
            assert!(count(text, 5).is_err_and(|e| e.starts_with(why)), "{text}");
        }
        assert_eq!(overlap("0-2,4", "3,4", 5), Some(4));
        assert_eq!(overlap("0-2", "3", 5), None);
        assert_eq!(overlap("", "3", 5), None);
    }
}
