//! Sets of completion indexes, as a Job's status writes them. Pure.

use std::collections::BTreeSet;

/// `1,3-5` to the numbers below `completions`.
pub fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.trim().parse::<i32>(), to.trim().parse::<i32>()) {
            indexes.extend(from.max(0)..=to.min(completions - 1));
        }
    }
    indexes
}

/// Numbers to `1,3-5`; two neighbours stay apart, as upstream writes them.
pub fn format(indexes: &BTreeSet<i32>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut run: Option<(i32, i32)> = None;
    let mut flush = |run: Option<(i32, i32)>| match run {
        Some((from, to)) if to > from + 1 => parts.push(format!("{from}-{to}")),
        Some((from, to)) => parts.extend((from..=to).map(|index| index.to_string())),
        None => {}
    };
    for &index in indexes {
        run = match run {
            Some((from, to)) if index == to + 1 => Some((from, index)),
            other => {
                flush(other);
                Some((index, index))
            }
        };
    }
    flush(run);
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_and_runs() {
        assert_eq!(format(&parse("0,2-4,6,7", 10)), "0,2-4,6,7");
        assert_eq!(
            format(&parse("0-9", 3)),
            "0-2",
            "what is beyond the completions is dropped"
        );
        assert_eq!(format(&parse("x,-,5", 9)), "5");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(indexes in prop::collection::btree_set(0i32..50, 0..30)) {
            prop_assert_eq!(parse(&format(&indexes), 50), indexes);
        }
    }
}
