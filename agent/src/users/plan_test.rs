use super::*;
use proptest::prelude::*;

#[test]
fn ranges_as_getsubids_tells_them() {
    let whole = "0: kubelet 65536 7208960\n";
    for (told, pods, expected) in [
        (whole, 110, Ok((65_536, 110))),
        (
            whole,
            111,
            Err("kubelet user assigned IDs are not enough to support 111 pods"),
        ),
        (
            "0: kubelet 65535 7208960\n",
            1,
            Err("kubelet user assigned ID 65535 is not a multiple of 65536"),
        ),
        (
            "0: kubelet 0 7208960\n",
            1,
            Err("kubelet user assigned ID 0 must be greater or equal to 65536"),
        ),
        (
            "0: kubelet 65536 65537\n",
            1,
            Err("kubelet user assigned IDs length 65537 is not a multiple of 65536"),
        ),
        ("0: kubelet 4294901760 131072\n", 1, Ok((4_294_901_760, 1))),
        ("0: kubelet 65536\n", 1, Err("invalid line \"0: kubelet 65536\"")),
        ("", 1, Err("error parsing line \"\": it must contain only one line")),
    ] {
        let found = Range::parse(told, pods).map(|r| (r.first, r.parts));
        assert_eq!(found, expected.map_err(str::to_owned), "{told}");
    }
    assert!(Range::parse("0: kubelet 65536 1\n1: kubelet 65536 1\n", 1).is_err());
    assert!(Range::parse("0: kubelet 4294967296 65536\n", 1).is_err());
    let last = Range::WHOLE.at(Range::WHOLE.parts - 1);
    assert_eq!(last.checked_add(IDS - 1), Some(u32::MAX), "up to the last ID");
}

#[test]
fn files_are_kubelets() {
    let mapping = Mapping { first: 131_072 };
    let text = r#"{"uidMappings":[{"hostId":131072,"containerId":0,"length":65536}],"gidMappings":[{"hostId":131072,"containerId":0,"length":65536}]}"#;
    assert_eq!(mapping.text(), text);
    assert_eq!(Mapping::parse(text.as_bytes()), Ok(mapping));
    let line = r#"{"hostId":131072,"containerId":0,"length":65536}"#;
    for (uids, gids, why) in [
        (
            String::new(),
            String::new(),
            "invalid user namespace configuration: no more than one mapping allowed.",
        ),
        (
            line.to_owned(),
            String::new(),
            "invalid user namespace configuration: GID and UID mapping should be identical",
        ),
        (
            line.replace("131072", "196608"),
            line.to_owned(),
            "invalid user namespace configuration: GID and UID mapping should be identical",
        ),
        (
            line.replace(":0", ":1"),
            line.replace(":0", ":1"),
            "invalid user namespace configuration: UID 0 must be mapped",
        ),
        (
            line.replace("65536", "1"),
            line.replace("65536", "1"),
            "wrong user namespace length 1",
        ),
        (
            line.replace("131072", "131073"),
            line.replace("131072", "131073"),
            "wrong user namespace offset specified 131073",
        ),
    ] {
        let text = format!(r#"{{"uidMappings":[{uids}],"gidMappings":[{gids}]}}"#);
        assert_eq!(Mapping::parse(text.as_bytes()), Err(why.to_owned()), "{text}");
    }
    let broken = Mapping::parse(b"{").expect_err("no JSON");
    assert!(broken.starts_with("invalid user namespace mappings file: "), "{broken}");
}

#[test]
fn a_runtime_without_user_namespaces_is_told_of() {
    let handler = |name: &str, able: Option<bool>| cri::RuntimeHandler {
        name: name.to_owned(),
        features: able.map(|user_namespaces| cri::RuntimeHandlerFeatures {
            user_namespaces,
            ..Default::default()
        }),
    };
    let known = [
        handler("", Some(true)),
        handler("old", Some(false)),
        handler("mute", None),
    ];
    let none = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
    let of = |name: &str| {
        format!("can't set `spec.hostUsers: false`, RuntimeClass handler {name:?} does not support user namespaces")
    };
    for (handlers, name, expected) in [
        (&known[..], "", None),
        (&known[..], "old", Some(of("old"))),
        (&known[..], "mute", Some(of("mute"))),
        (
            &known[..],
            "new",
            Some(of("new") + ": the handler \"new\" is not known"),
        ),
        (&known[1..], "", Some(format!("{none}: the handler \"\" is not known"))),
        (&[handler("", Some(false))][..], "", Some(none.to_owned())),
    ] {
        assert_eq!(refusal(handlers, name), expected, "{name}");
    }
}

#[test]
fn what_was_given_stays_given() {
    let mut book = Book::new(Range { first: IDS, parts: 2 });
    let one = book.allocate("a").expect("room");
    assert_eq!(book.of("a"), Some(one));
    assert_eq!(book.enter("a", one), Ok(()));
    let other = Mapping {
        first: 3 * IDS - one.first,
    };
    assert_eq!(
        book.enter("a", other),
        Err("different user namespace range already used by pod \"a\"".to_owned())
    );
    assert_eq!(
        book.enter("b", one),
        Err("range picked for pod \"b\" already taken".to_owned())
    );
    assert_eq!(
        book.enter("b", Mapping { first: 3 * IDS }),
        Err("id 196608 is out of range".to_owned())
    );
    assert_eq!(
        book.enter("b", Mapping { first: 0 }),
        Err("id 0 is out of range".to_owned())
    );
    assert_eq!(book.allocate("b"), Ok(other));
    assert_eq!(
        book.allocate("c"),
        Err("could not find an empty slot to allocate a user namespace".to_owned())
    );
    book.retain(|uid| uid != "a");
    assert_eq!(book.of("a"), None);
    assert_eq!(book.allocate("c"), Ok(one));
}

proptest! {
    /// Whatever comes and goes, no two pods share an ID, none has one of the machine's, and a
    /// range that is not full has room.
    #[test]
    fn no_two_pods_overlap(steps in proptest::collection::vec((any::<bool>(), 0_u8..24), 1..200)) {
        let range = Range { first: 2 * IDS, parts: 16 };
        let mut book = Book::new(range);
        for (comes, pod) in steps {
            let uid = format!("pod-{pod}");
            if comes && book.of(&uid).is_none() {
                let full = book.held.len() == 16;
                prop_assert_eq!(book.allocate(&uid).is_err(), full);
            } else if !comes {
                book.retain(|other| other != uid);
            }
            let firsts: BTreeSet<u32> = book.held.values().map(|m| m.first).collect();
            prop_assert_eq!(firsts.len(), book.held.len());
            prop_assert_eq!(&firsts, &book.taken);
            prop_assert!(firsts.iter().all(|first| first % IDS == 0 && (2 * IDS..18 * IDS).contains(first)));
        }
    }
}
