use super::*;
use serde_json::{Value, json};

fn made(pod: Value, own: Value, image: &ImageUser) -> cri::LinuxContainerSecurityContext {
    let container = json!({"name": "c", "securityContext": own});
    let spec: PodSpec =
        serde_json::from_value(json!({"containers": [container], "securityContext": pod})).expect("valid");
    of_container(&spec, &spec.containers[0], image, None)
}

#[test]
fn users_and_groups() {
    let named = ImageUser::Name("app".into());
    // Pod's and container's context, the image's user; then user, user name, group, groups.
    for (pod, own, image, expected) in [
        (json!({}), json!({}), &ImageUser::Id(7), (Some(7), "", None, vec![])),
        (json!({}), json!({}), &named, (None, "app", None, vec![])),
        (
            json!({}),
            json!({"runAsGroup": 5}),
            &ImageUser::Id(0),
            (Some(0), "", Some(5), vec![]),
        ),
        (
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [9, 4]}),
            json!({}),
            &named,
            (Some(1), "", Some(2), vec![9, 4, 3]),
        ),
        (
            json!({"runAsUser": 1, "runAsGroup": 2}),
            json!({"runAsUser": 0, "runAsGroup": 8}),
            &named,
            (Some(0), "", Some(8), vec![]),
        ),
    ] {
        let found = made(pod.clone(), own.clone(), image);
        let value = |v: Option<cri::Int64Value>| v.map(|v| v.value);
        let found = (
            value(found.run_as_user),
            found.run_as_username,
            value(found.run_as_group),
            found.supplemental_groups,
        );
        assert_eq!(
            found,
            (expected.0, expected.1.to_owned(), expected.2, expected.3),
            "{pod} {own}"
        );
    }
    assert_eq!(
        made(json!({"supplementalGroupsPolicy": "Strict"}), json!({}), &named).supplemental_groups_policy,
        1
    );
    assert_eq!(made(json!({}), json!({}), &named).supplemental_groups_policy, 0);
}

#[test]
fn users_of_the_pods_own() {
    let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).expect("valid");
    let line = cri::IdMapping {
        host_id: 131_072,
        container_id: 0,
        length: 65_536,
    };
    for (users, mode, lines) in [
        (None, NamespaceMode::Node, vec![]),
        (Some(Mapping { first: 131_072 }), NamespaceMode::Pod, vec![line]),
    ] {
        let expected = Some(cri::UserNamespace {
            mode: mode as i32,
            uids: lines.clone(),
            gids: lines,
        });
        assert_eq!(namespaces(&spec, users).userns_options, expected);
        let container = of_container(&spec, &spec.containers[0], &ImageUser::default(), users);
        assert_eq!(container.namespace_options.and_then(|o| o.userns_options), expected);
    }
}

#[test]
fn profiles_of_the_container_come_before_those_of_the_pod() {
    let image = ImageUser::default();
    let kind = |pod: Value, own: Value| {
        let found = made(pod, own, &image);
        let seccomp = found.seccomp.expect("always told");
        let armor = found.apparmor.map(|a| (a.profile_type, a.localhost_ref));
        (seccomp.profile_type, seccomp.localhost_ref, armor)
    };
    let (runtime, unconfined, local) = (0, 1, 2);
    assert_eq!(kind(json!({}), json!({})), (unconfined, String::new(), None));
    let default = json!({"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"}});
    assert_eq!(
        kind(default.clone(), json!({})),
        (runtime, String::new(), Some((runtime, String::new())))
    );
    let own = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"},
                     "appArmorProfile": {"type": "Localhost", "localhostProfile": "web"}});
    let expected = (
        local,
        "/var/lib/kubelet/seccomp/a/b.json".to_owned(),
        Some((local, "web".to_owned())),
    );
    assert_eq!(kind(default.clone(), own), expected);
    assert_eq!(kind(default, json!({"privileged": true})).0, unconfined);
}

#[test]
fn what_of_proc_and_sys_is_hidden() {
    let image = ImageUser::default();
    let hidden = |own: Value| {
        let found = made(json!({}), own, &image);
        (found.masked_paths.len(), found.readonly_paths.len(), found.no_new_privs)
    };
    assert_eq!(hidden(json!({})), (MASKED.len(), READ_ONLY.len(), false));
    assert_eq!(
        hidden(json!({"procMount": "Default", "allowPrivilegeEscalation": false})),
        (MASKED.len(), READ_ONLY.len(), true)
    );
    assert_eq!(hidden(json!({"procMount": "Unmasked"})), (0, 0, false));
    assert_eq!(
        hidden(json!({"privileged": true, "allowPrivilegeEscalation": true})),
        (0, 0, false)
    );
}

#[test]
fn labels_of_se_linux() {
    let found = made(
        json!({"seLinuxOptions": {"level": "s0:c1,c2", "user": "u", "role": "r", "type": "t"}}),
        json!({}),
        &ImageUser::default(),
    );
    let options = found.selinux_options.expect("told");
    assert_eq!((options.level.as_str(), options.r#type.as_str()), ("s0:c1,c2", "t"));
    assert!(
        made(json!({}), json!({}), &ImageUser::default())
            .selinux_options
            .is_none()
    );
}

#[test]
fn who_is_not_root() {
    let named = ImageUser::Name("app".into());
    for (pod, own, image, expected) in [
        (json!({}), json!({}), &ImageUser::Id(0), None),
        (
            json!({"runAsNonRoot": true}),
            json!({}),
            &ImageUser::Id(0),
            Some(r#"container has runAsNonRoot and image will run as root (pod: "p_n(u)", container: c)"#),
        ),
        (json!({"runAsNonRoot": true}), json!({}), &ImageUser::Id(5), None),
        (
            json!({"runAsNonRoot": true}),
            json!({"runAsNonRoot": false}),
            &ImageUser::Id(0),
            None,
        ),
        (
            json!({"runAsNonRoot": true, "runAsUser": 0}),
            json!({}),
            &named,
            Some(r#"container's runAsUser breaks non-root policy (pod: "p_n(u)", container: c)"#),
        ),
        (
            json!({"runAsUser": 0}),
            json!({"runAsNonRoot": true, "runAsUser": 5}),
            &named,
            None,
        ),
        (
            json!({}),
            json!({"runAsNonRoot": true}),
            &named,
            Some(
                "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root \
                 (pod: \"p_n(u)\", container: c)",
            ),
        ),
    ] {
        let container = json!({"name": "c", "securityContext": own});
        let spec = json!({"containers": [container], "securityContext": pod});
        let spec: PodSpec = serde_json::from_value(spec).expect("valid");
        let found = not_root(&spec, &spec.containers[0], image, "p_n(u)").err();
        assert_eq!(found.as_deref(), expected, "{pod} {own}");
    }
}
