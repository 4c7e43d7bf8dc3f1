//! No two servers lead in one term.

use crate::world::World;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Leaders(BTreeMap<u64, u64>);

impl Leaders {
    /// Looks who leads now.
    pub fn check(&mut self, world: &World) {
        for up in world.all_up() {
            let id = up.host.id;
            if !up.store.members().iter().any(|m| m.id == id && m.leader) {
                continue;
            }
            let term = up.store.progress().term;
            let first = *self.0.entry(term).or_insert(id);
            if first != id {
                world
                    .observer
                    .fail(format!("servers {first} and {id} lead in term {term}"));
            }
        }
    }
}
