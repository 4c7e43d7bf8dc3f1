//! Whether a comparison holds. Pure.

use super::*;

impl State {
    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let at = |key: &[u8]| self.tree.get(key);
        match compare {
            Compare::ModRevision(key, r) => at(key).map_or(0, Entry::mod_revision) == *r,
            Compare::Test(test) => {
                let found = self.find(&test.range, 0).entries;
                match found.is_empty() {
                    true => test.holds(None),
                    false => found.iter().all(|e| test.holds(Some(e))),
                }
            }
        }
    }
}

impl Test {
    fn holds(&self, entry: Option<&Entry>) -> bool {
        let order = match &self.target {
            Target::Version(n) => entry.map_or(0, Entry::version).cmp(n),
            Target::CreateRevision(n) => entry.map_or(0, Entry::create_revision).cmp(n),
            Target::ModRevision(n) => entry.map_or(0, Entry::mod_revision).cmp(n),
            Target::Lease(n) => entry.map_or(0, Entry::lease).cmp(n),
            Target::Body(body) => match entry {
                Some(entry) => entry.body().cmp(body),
                None => return false,
            },
        };
        match self.relation {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
        }
    }
}
