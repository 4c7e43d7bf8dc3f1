//! What a node's pools offer. Pure.

use super::Devices;
use super::pool::{Pool, PoolKey, Whole};
use super::search::{Market, Offer};
use super::slice::Counters;
use crate::selector::Labels;
use std::collections::BTreeMap;

/// The devices of a node, in the order in which they are given away.
pub fn market<'a>(devices: &'a Devices, node: &String, labels: &Labels) -> Market<'a> {
    let mut market = Market {
        offers: Vec::new(),
        broken: None,
        left: BTreeMap::new(),
    };
    for (number, (key, pool)) in devices.pools_for(node).enumerate() {
        let reached = pool
            .devices()
            .filter(|(slice, device)| slice.reach_of(device).reaches(node, labels));
        let mut reached = reached.peekable();
        if reached.peek().is_none() {
            continue;
        }
        if pool.state != Whole::Yes {
            market.broken.get_or_insert_with(|| broken(key, pool.state));
            continue;
        }
        market.offers.extend(reached.map(|(slice, device)| Offer {
            pool: number,
            slice,
            device,
        }));
        count(devices, number, pool, &mut market.left);
    }
    market
}

fn broken((driver, pool): &PoolKey, state: Whole) -> String {
    match state {
        Whole::Invalid => format!("{driver}/{pool} is currently invalid"),
        _ => format!("{driver}/{pool} is currently being updated"),
    }
}

/// What those who have devices of the pool leave of its counters.
fn count<'a>(devices: &Devices, number: usize, pool: &'a Pool, left: &mut BTreeMap<(usize, &'a str), Counters>) {
    for slice in pool.slices() {
        for (set, amounts) in &slice.counters {
            left.insert((number, set.as_str()), amounts.clone());
        }
    }
    for (_, device) in pool.devices().filter(|(_, device)| !device.consumes.is_empty()) {
        if !devices.is_taken(&device.id) {
            continue;
        }
        for (set, amounts) in &device.consumes {
            for (name, left) in left.get_mut(&(number, set.as_str())).into_iter().flatten() {
                if let Some(amount) = amounts.get(name) {
                    *left = *left - *amount;
                }
            }
        }
    }
}
