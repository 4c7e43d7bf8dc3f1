use super::*;
use serde_json::{Value, json};

fn claim(name: &str, uid: &str, consumers: &[&str]) -> ResourceClaim {
    let consumers: Vec<Value> = consumers
        .iter()
        .map(|uid| json!({"resource": "pods", "name": uid, "uid": uid}))
        .collect();
    let result =
        |request: &str, driver: &str| json!({"request": request, "driver": driver, "pool": "p", "device": "d"});
    serde_json::from_value(json!({"metadata": {"namespace": "n", "name": name, "uid": uid,
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "a", "controller": true}]},
        "spec": {}, "status": {"reservedFor": consumers,
            "allocation": {"devices": {"results": [result("r", "x.io"), result("s", "x.io"), result("t", "y.io")]}}}}))
    .expect("a claim")
}

fn pod(uid: &str, claims: &[&str]) -> Pod {
    let entries: Vec<Value> = claims
        .iter()
        .map(|name| json!({"name": format!("entry-{name}"), "resourceClaimName": name}))
        .collect();
    serde_json::from_value(json!({"metadata": {"namespace": "n", "name": uid, "uid": uid},
        "spec": {"containers": [], "resourceClaims": entries}}))
    .expect("a pod")
}

fn drivers() -> BTreeSet<String> {
    ["x.io", "y.io"].map(String::from).into()
}

fn device(request: &[&str], cdi: &[&str]) -> Prepared {
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Prepared {
        requests: texts(request),
        cdi: texts(cdi),
        ..Prepared::default()
    }
}

#[test]
fn who_may_use_a_claim() {
    let shared = claim("c", "u", &["a", "b"]);
    assert_eq!(drivers_of(&shared), Ok(drivers()));
    assert_eq!(may_use(&pod("a", &["c"]), &shared, true), Ok(()));
    assert_eq!(may_use(&pod("b", &["c"]), &shared, false), Ok(()));
    assert_eq!(
        may_use(&pod("b", &["c"]), &shared, true),
        Err("ResourceClaim n/c was not created for pod n/b (pod is not owner)".into())
    );
    assert_eq!(
        may_use(&pod("z", &["c"]), &shared, false),
        Err("pod z (z) is not allowed to use ResourceClaim c (u)".into())
    );
    let mut free = shared;
    free.status = None;
    assert_eq!(drivers_of(&free), Err("ResourceClaim c: not allocated".into()));
}

#[test]
fn a_claim_is_prepared_once_a_boot_and_given_back_by_the_last() {
    let (a, b) = (pod("a", &["c"]), pod("b", &["c"]));
    let mut book = Book::default();
    let shared = claim("c", "u", &["a", "b"]);
    book.begin("a", &shared, drivers()).expect("new");
    assert!(book.unready("n/c", "boot").is_some() && !book.is_ready(&a, "boot"));
    book.made_ready("n/c", "x.io", vec![device(&[], &["x.io/d=1"])]);
    book.ready("n/c", "boot");
    assert!(book.unready("n/c", "boot").is_none() && book.is_ready(&a, "boot"));
    assert!(book.unready("n/c", "next boot").is_some() && !book.is_ready(&a, "next boot"));
    assert!(!book.is_ready(&b, "boot"), "it does not hold it yet");
    assert_eq!(
        (book.drivers_for(&a, "n/c"), book.drivers_for(&b, "n/c")),
        (Some(drivers()), None)
    );
    book.begin("b", &shared, drivers()).expect("known");
    assert!(book.unready("n/c", "boot").is_none() && book.is_ready(&b, "boot"));
    let kept: Book = serde_json::from_slice(&serde_json::to_vec(&book).expect("written")).expect("read");
    assert_eq!(kept, book);
    let other = claim("c", "other", &["a"]);
    let error = book
        .begin("a", &other, drivers())
        .expect_err("another claim of that name");
    assert!(
        error.contains("old ResourceClaim with same name c and different UID u"),
        "{error}"
    );
    assert!(book.last_held_by("a").is_empty());
    assert_eq!(book.held_by("a"), BTreeSet::from(["n/c".to_string()]));
    book.leave("a", &[]);
    assert_eq!(book.pods(), BTreeSet::from(["b".to_string()]));
    let last = book.last_held_by("b");
    assert_eq!(last[0].drivers().collect::<Vec<_>>(), ["x.io", "y.io"]);
    book.leave("b", &last);
    assert!(book.is_empty() && !book.has_pod("b"));
}

#[test]
fn containers_get_what_they_ask_for() {
    let mut book = Book::default();
    book.begin("a", &claim("c", "u", &["a"]), drivers()).expect("new");
    book.made_ready(
        "n/c",
        "x.io",
        vec![device(&["r"], &["x=1", "x=2"]), device(&["s/small"], &["x=3"])],
    );
    book.made_ready("n/c", "y.io", vec![device(&[], &["y=1"])]);
    let pod = pod("a", &["c"]);
    let of = |claims: Value| {
        let container = json!({"name": "c", "resources": {"claims": claims}});
        book.cdi(&pod, &serde_json::from_value(container).expect("a container"))
    };
    let list = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect());
    assert_eq!(of(json!([])), list(&[]));
    assert_eq!(of(json!([{"name": "entry-c"}])), list(&["x=1", "x=2", "x=3", "y=1"]));
    assert_eq!(
        of(json!([{"name": "entry-c", "request": "r"}])),
        list(&["x=1", "x=2", "y=1"])
    );
    assert_eq!(of(json!([{"name": "entry-c", "request": "s"}])), list(&["x=3", "y=1"]));
    let twice = json!([{"name": "entry-c", "request": "r"}, {"name": "entry-c", "request": "s"}]);
    assert_eq!(of(twice), list(&["x=1", "x=2", "y=1", "x=3"]));
    assert_eq!(of(json!([{"name": "entry-other"}])), list(&[]));
    let container = serde_json::from_value(json!({"name": "c", "resources": {"claims": [{"name": "entry-c"}]}}));
    assert!(Book::default().cdi(&pod, &container.expect("a container")).is_err());
}
