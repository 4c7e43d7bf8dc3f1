//! The table against itself: unique, sorted, whole.

use super::*;

#[test]
fn rows_are_found_by_plural_and_kind() {
    for kind in kinds() {
        assert_eq!(find(kind.group, kind.plural).map(|k| k.kind), Some(kind.kind));
        assert_eq!(find_kind(kind.group, kind.kind).map(|k| k.plural), Some(kind.plural));
        assert!(kind.verbs.is_sorted(), "{}", kind.plural);
        assert!(kind.subresources.is_sorted_by_key(|s| s.name), "{}", kind.plural);
        assert!(kind.versions.contains(&kind.storage_version));
    }
    assert!(find("", "deployments").is_none());
}
