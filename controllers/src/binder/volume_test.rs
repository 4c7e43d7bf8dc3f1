use super::*;
use serde_json::{Value, json};

fn volume(spec: Value, annotations: Value) -> PersistentVolume {
    let volume = json!({"metadata": {"name": "v", "annotations": annotations}, "spec": spec});
    serde_json::from_value(volume).expect("a volume")
}

#[test]
fn fates() {
    let claim = |uid: &str, spec: Value| -> PersistentVolumeClaim {
        let claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": uid}, "spec": spec});
        serde_json::from_value(claim).expect("a claim")
    };
    let of = |uid: Value| json!({"namespace": "n", "name": "c", "uid": uid});
    let own = || volume(json!({"claimRef": of(json!("u"))}), json!({}));
    let with = |policy: &str, source: &str| {
        let spec = json!({"claimRef": of(json!("u")), "persistentVolumeReclaimPolicy": policy,
            source: {"path": "/x", "driver": "d", "volumeHandle": "h"}});
        volume(spec, json!({}))
    };
    let made = || {
        let spec = json!({"claimRef": of(json!("u")), "persistentVolumeReclaimPolicy": "Delete"});
        volume(spec, json!({PROVISIONED_BY: "x.io/p"}))
    };
    let failed = |reason: &'static str, text: &str| Fate::Failed(reason, text.to_string());
    for (case, volume, claim, expected) in [
        ("nobody's", volume(json!({}), json!({})), None, Fate::Available),
        (
            "meant for somebody",
            volume(json!({"claimRef": of(json!(null))}), json!({})),
            None,
            Fate::Available,
        ),
        ("gone", own(), None, Fate::Released),
        (
            "another of that name",
            own(),
            Some(claim("w", json!({"volumeName": "v"}))),
            Fate::Released,
        ),
        (
            "both say so",
            own(),
            Some(claim("u", json!({"volumeName": "v"}))),
            Fate::Bound,
        ),
        ("half bound", own(), Some(claim("u", json!({}))), Fate::AskClaim),
        (
            "block and files",
            own(),
            Some(claim("u", json!({"volumeMode": "Block"}))),
            Fate::Mismatch,
        ),
        (
            "it has another",
            own(),
            Some(claim("u", json!({"volumeName": "w"}))),
            Fate::Unbind,
        ),
        (
            "it has another, made for it",
            made(),
            Some(claim("u", json!({"volumeName": "w"}))),
            Fate::Released,
        ),
        ("its maker deletes it", made(), None, Fate::Released),
        ("its driver deletes it", with("Delete", "csi"), None, Fate::Released),
        (
            "nobody deletes it",
            with("Delete", "hostPath"),
            None,
            failed(
                "VolumeFailedDelete",
                "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched",
            ),
        ),
        (
            "nobody empties it",
            with("Recycle", "hostPath"),
            None,
            failed("VolumeFailedRecycle", "No recycler plugin found for the volume!"),
        ),
    ] {
        assert_eq!(fate(&volume, claim.as_ref()), expected, "{case}");
    }
}

#[test]
fn a_volume_let_go() {
    let reference = json!({"claimRef": {"namespace": "n", "name": "c", "uid": "u"}});
    let ours = unbound(&volume(
        reference.clone(),
        json!({BOUND_BY_CONTROLLER: "yes", "x": "y"}),
    ));
    assert_eq!(ours.spec.expect("a spec").claim_ref, None);
    let theirs = unbound(&volume(reference, json!({}))).spec.expect("a spec");
    let reference = theirs.claim_ref.expect("still meant for it");
    assert_eq!((reference.name.as_deref(), reference.uid), (Some("c"), None));
}

#[test]
fn a_phase_is_told_once() {
    let once = told(&volume(json!({}), json!({})), "Failed", "why").expect("news");
    assert_eq!(told(&once, "Failed", "why"), None);
    let status = told(&once, "Bound", "").expect("news").status.expect("a status");
    assert_eq!((status.phase.as_deref(), status.message), (Some("Bound"), None));
}
