//! Leaders come in the order of their votes: by term, and within a term by number (openraft
//! lets a server of a greater number win a term that one of a smaller has won, which
//! counts from there on as a greater term does).

use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Leaders(BTreeMap<u64, BTreeSet<u64>>);

impl Leaders {
    /// Looks who leads now.
    pub fn check(&mut self, world: &World) {
        for up in world.all_up() {
            let id = up.host.id;
            if !up.store.members().iter().any(|m| m.id == id && m.leader) {
                continue;
            }
            let term = up.store.progress().term;
            let led = self.0.entry(term).or_default();
            // One that was superseded may not know yet.
            if let Some(last) = led.last()
                && *last > id
                && !led.contains(&id)
            {
                let what = format!("server {id} leads in term {term} after server {last}, whose vote is greater");
                world.observer.fail(what);
            }
            led.insert(id);
        }
    }
}
