//! The search against one that tries everything.

use super::search::{Amount, Claim, Constraint, Market, Offer, Request, Rules, Want, search};
use super::slice::{Counters, Device, Slice};
use k8s_openapi::api::resource::v1::ResourceSlice;
use proptest::prelude::*;
use serde_json::json;
use skiff_api::quantity::Quantity;
use std::collections::BTreeMap;

/// A device, as one number says it: its attribute, whether somebody has it, what it takes of the counter.
#[derive(Debug, Clone, Copy)]
struct Small {
    attribute: Option<i64>,
    taken: bool,
    consumes: i64,
}

#[derive(Debug, Clone)]
struct Alternative {
    /// By device.
    selects: Vec<bool>,
    /// `None`: all.
    count: Option<usize>,
    admin: bool,
}

#[derive(Debug, Clone)]
struct World {
    devices: Vec<Small>,
    counter: i64,
    /// Claims, requests, alternatives.
    claims: Vec<Vec<Vec<Alternative>>>,
    /// By claim: whether distinct, and whether about its first request alone.
    constraints: Vec<Option<(bool, bool)>>,
}

/// One device for a claim: claim, request, alternative, device.
type Got = (usize, usize, usize, usize);

fn world(numbers: &[u32]) -> World {
    let mut numbers = numbers.iter();
    let mut below = |most: u32| numbers.next().map_or(0, |number| number % most);
    let count = 1 + below(5) as usize;
    let devices: Vec<Small> = (0..count)
        .map(|_| Small {
            attribute: [Some(1), Some(2), Some(1), None][below(4) as usize],
            taken: below(5) == 4,
            consumes: i64::from(below(3)),
        })
        .collect();
    let counter = i64::from(1 + below(5));
    let mut claims = Vec::new();
    let mut constraints = Vec::new();
    for _ in 0..=below(2) {
        let mut requests = Vec::new();
        for _ in 0..=below(2) {
            let alternatives = (0..=below(2)).map(|_| Alternative {
                selects: (0..count).map(|_| below(4) != 3).collect(),
                count: [Some(1), Some(2), Some(1), None][below(4) as usize],
                admin: below(6) == 5,
            });
            requests.push(alternatives.collect());
        }
        claims.push(requests);
        constraints.push((below(2) == 1).then(|| (below(3) == 2, below(2) == 1)));
    }
    World {
        devices,
        counter,
        claims,
        constraints,
    }
}

/// Whether this is all right as a whole, whatever the order.
fn valid(world: &World, got: &[Got]) -> bool {
    let alternative = |(claim, request, alternative, _): &Got| &world.claims[*claim][*request][*alternative];
    let own: Vec<usize> = got
        .iter()
        .filter(|one| !alternative(one).admin)
        .map(|one| one.3)
        .collect();
    let twice = own.iter().enumerate().any(|(at, device)| own[..at].contains(device));
    let others = own.iter().any(|device| world.devices[*device].taken);
    let consumed: i64 = own.iter().map(|device| world.devices[*device].consumes).sum();
    let again = got.iter().enumerate().any(|(at, one)| {
        let mut before = got[..at].iter();
        before.any(|other| (other.0, other.3) == (one.0, one.3))
    });
    let unselected = got.iter().any(|one| !alternative(one).selects[one.3]);
    let constrained = world.constraints.iter().enumerate().all(|(claim, constraint)| {
        let Some((distinct, first)) = constraint else {
            return true;
        };
        let about = got.iter().filter(|one| one.0 == claim && (!first || one.1 == 0));
        let values: Vec<Option<i64>> = about.map(|one| world.devices[one.3].attribute).collect();
        let pairs = values
            .iter()
            .enumerate()
            .all(|(at, value)| values[..at].iter().all(|other| (other == value) != *distinct));
        values.iter().all(Option::is_some) && pairs
    });
    !twice && !others && consumed <= world.counter && !again && !unselected && constrained
}

/// What each request could get by itself, in all ways; alternatives in order.
fn ways(world: &World, claim: usize, request: usize, alternative: usize) -> Vec<Vec<Got>> {
    let of = &world.claims[claim][request][alternative];
    let all = 0u32..1 << world.devices.len();
    let sets = all.map(|set| {
        (0..world.devices.len())
            .filter(|at| set & 1 << at != 0)
            .collect::<Vec<usize>>()
    });
    let fits = |set: &Vec<usize>| match of.count {
        Some(count) => set.len() == count,
        None => !set.is_empty() && (0..world.devices.len()).all(|at| of.selects[at] == set.contains(&at)),
    };
    let sets = sets.filter(fits);
    sets.map(|set| {
        set.into_iter()
            .map(|device| (claim, request, alternative, device))
            .collect()
    })
    .collect()
}

/// The alternatives that are had in the end, in the order of requests; `None`: nothing will do.
fn best(world: &World) -> Option<Vec<usize>> {
    let places: Vec<(usize, usize)> = world
        .claims
        .iter()
        .enumerate()
        .flat_map(|(claim, requests)| (0..requests.len()).map(move |request| (claim, request)))
        .collect();
    let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
    for (claim, request) in &places {
        let count = world.claims[*claim][*request].len();
        choices = choices
            .into_iter()
            .flat_map(|choice| (0..count).map(move |alternative| [choice.clone(), vec![alternative]].concat()))
            .collect();
    }
    choices.into_iter().find(|choice| {
        let mut partial: Vec<Vec<Got>> = vec![Vec::new()];
        for ((claim, request), alternative) in places.iter().zip(choice) {
            let ways = ways(world, *claim, *request, *alternative);
            partial = partial
                .into_iter()
                .flat_map(|got| ways.iter().map(move |way| [got.clone(), way.clone()].concat()))
                .filter(|got| valid(world, got))
                .collect();
        }
        !partial.is_empty()
    })
}

fn slice(world: &World) -> Slice {
    let devices: Vec<serde_json::Value> = world
        .devices
        .iter()
        .enumerate()
        .map(|(at, device)| {
            let attributes = device.attribute.map(|value| json!({"a": {"int": value}}));
            json!({"name": format!("d{at}"), "attributes": attributes,
                "consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": device.consumes.to_string()}}}]})
        })
        .collect();
    let slice: ResourceSlice = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {
        "driver": "x.io", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "allNodes": true,
        "devices": devices}}))
    .expect("a slice");
    Slice::of(&slice)
}

fn claims(world: &World) -> Vec<Claim> {
    let mut id = 0;
    let mut all = Vec::new();
    for (number, requests) in world.claims.iter().enumerate() {
        let requests: Vec<Request> = requests
            .iter()
            .enumerate()
            .map(|(request, alternatives)| {
                let name = format!("r{request}");
                let alternatives = alternatives.iter().enumerate().map(|(at, of)| {
                    id += 1;
                    Want {
                        id: id - 1,
                        name: format!("{name}/{at}"),
                        class: String::new(),
                        amount: of.count.map_or(Amount::All, Amount::Count),
                        admin: of.admin,
                        tolerations: Vec::new(),
                        capacity: Vec::new(),
                    }
                });
                Request {
                    alternatives: alternatives.collect(),
                }
            })
            .collect();
        let constraint = world.constraints[number].map(|(distinct, first)| Constraint {
            requests: if first { vec!["r0".into()] } else { Vec::new() },
            attribute: "x.io/a".into(),
            distinct,
        });
        all.push(Claim {
            name: number.to_string(),
            requests,
            constraints: constraint.into_iter().collect(),
        });
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn what_can_be_had_is_found(numbers in proptest::collection::vec(0u32..60, 0..60)) {
        let world = world(&numbers);
        let (slice, claims) = (slice(&world), claims(&world));
        let flat: Vec<&Alternative> = world.claims.iter().flatten().flatten().collect();
        let number = |device: &Device| device.id.device[1..].parse::<usize>().expect("a number");
        let selects = |want: &Want, device: &Device| Ok(flat[want.id].selects[number(device)]);
        let taken = |id: &super::DeviceId| world.devices[id.device[1..].parse::<usize>().expect("a number")].taken;
        let left = Counters::from([("c".to_string(), Quantity::from_units(world.counter))]);
        let market = Market {
            offers: slice.devices.iter().map(|device| Offer { pool: 0, slice: &slice, device }).collect(),
            broken: None,
            left: BTreeMap::from([((0, "s"), left)]),
        };
        let found = search(&claims, market, &Rules { selects: &selects, taken: &taken }).expect("within limits");
        let wanted = best(&world);
        prop_assert_eq!(found.is_some(), wanted.is_some());
        if let Some(found) = found {
            let got: Vec<Got> = found
                .iter()
                .map(|one| {
                    let (request, alternative) = one.want.name.split_once('/').expect("both");
                    (one.claim, request[1..].parse().expect("a number"), alternative.parse().expect("a number"), one.offer)
                })
                .collect();
            prop_assert!(valid(&world, &got), "{:?}", got);
            let mut chosen: Vec<(usize, usize, usize)> = got.iter().map(|one| (one.0, one.1, one.2)).collect();
            chosen.dedup();
            // Later requests take what the devices of earlier ones leave them.
            prop_assert_eq!(chosen.first().map(|one| one.2), wanted.and_then(|wanted| wanted.first().copied()));
            for (claim, request, alternative) in chosen {
                let had = got.iter().filter(|one| (one.0, one.1) == (claim, request)).count();
                let of = &world.claims[claim][request][alternative];
                prop_assert_eq!(had, of.count.unwrap_or_else(|| of.selects.iter().filter(|one| **one).count()));
            }
        }
    }
}
