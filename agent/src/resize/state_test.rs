use super::*;
use serde_json::json;

fn pod(cpu: &str, generation: i64) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"uid": "u", "generation": generation}, "spec": {"containers": [
        {"name": "a", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]}}),
    )
    .expect("valid")
}

fn needs(cpu: &str) -> ResourceRequirements {
    serde_json::from_value(json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}})).expect("valid")
}

fn seen(id: &str, cpu: &str) -> Observed {
    let mut seen = Observed::default();
    seen.put_container(Seen {
        id: id.into(),
        name: "a".into(),
        state: Life::Running,
        resources: serde_json::to_string(&needs(cpu)).expect("plain"),
        ..Seen::default()
    });
    seen
}

fn kinds(state: &State) -> Vec<(&'static str, Option<&'static str>, i64)> {
    state
        .conditions()
        .into_iter()
        .map(|(kind, reason, _, at)| (kind, reason, at))
        .collect()
}

fn reason(told: Option<Told>) -> &'static str {
    told.map_or("", |(_, reason, _)| reason)
}

#[test]
fn a_resize_from_wish_to_completion() {
    let host = Host::default();
    let (old, new) = (pod("1", 1), pod("2", 2));
    let mut state = State::new(&old, None, &Observed::default());
    let seen = seen("x", "1");
    state.began(seen.find("x").expect("put"));
    assert_eq!(state.asks(&old), Err(None));
    assert_eq!(state.due(&old, &seen, &host, None), None);

    assert_eq!(state.asks(&new), Ok(()));
    let later = || Some(Verdict::Deferred("full".into()));
    assert_eq!(reason(state.decided(&new, later())), "ResizeDeferred");
    assert_eq!(reason(state.decided(&new, later())), "", "the same is told once");
    assert_eq!(kinds(&state), [("PodResizePending", Some("Deferred"), 2)]);
    assert_eq!(state.shown("a", Some("x")).1, needs("1").requests);
    assert_eq!(state.due(&old, &seen, &host, None), None);

    assert_eq!(reason(state.decided(&new, Some(Verdict::Granted))), "ResizeStarted");
    assert_eq!(kinds(&state), [("PodResizeInProgress", None, 2)]);
    let (shown, granted) = state.shown("a", Some("x"));
    assert_eq!((shown, granted), (Some(needs("1")), needs("2").requests));
    assert_eq!(
        state.shown("a", None).0,
        Some(needs("2")),
        "what does not run is shown as granted"
    );

    let (change, limits) = state.due(&new, &seen, &host, None).expect("something to do");
    assert_eq!(change.update.len(), 1);
    let failed = || Err("no".to_owned());
    assert_eq!(
        reason(state.done(&new, limits.clone(), vec![], failed())),
        "ResizeError"
    );
    assert_eq!(
        reason(state.done(&new, limits.clone(), vec![], failed())),
        "",
        "the same is told once"
    );
    assert_eq!(kinds(&state), [("PodResizeInProgress", Some("Error"), 2)]);

    let in_force = vec![("x".to_owned(), needs("2"))];
    assert_eq!(state.done(&new, limits, in_force, Ok(())), None);
    assert_eq!(state.due(&new, &seen, &host, None), None);
    assert_eq!(reason(state.completed(&new)), "ResizeCompleted");
    assert_eq!((kinds(&state), reason(state.completed(&new))), (vec![], ""));
    assert_eq!(state.shown("a", Some("x")).0, Some(needs("2")));
}

#[test]
fn a_wish_taken_back_is_pending_no_more() {
    let mut state = State::new(&pod("1", 1), None, &Observed::default());
    state.decided(&pod("9", 2), Some(Verdict::Infeasible("never".into())));
    assert_eq!(kinds(&state), [("PodResizePending", Some("Infeasible"), 2)]);
    assert_eq!(state.asks(&pod("1", 3)), Err(None));
    assert_eq!(state.decided(&pod("1", 3), None), None);
    assert_eq!(kinds(&state), []);
}

#[test]
fn an_agent_that_starts_again_goes_on() {
    let host = Host::default();
    // The pod was changed while the agent was away: what runs is what was granted.
    let mut state = State::new(&pod("2", 2), None, &seen("x", "1"));
    assert_eq!(state.asks(&pod("2", 2)), Ok(()));
    state.decided(&pod("2", 2), Some(Verdict::Granted));
    // And it stopped again before that was done.
    let kept: Kept = serde_json::from_slice(&serde_json::to_vec(&state.kept()).expect("plain")).expect("whole");
    let again = State::new(&pod("2", 2), Some(kept), &seen("x", "1"));
    assert_eq!(again.asks(&pod("2", 2)), Err(None));
    assert_eq!(kinds(&again), [("PodResizeInProgress", None, 2)]);
    assert_eq!(
        again
            .due(&pod("2", 2), &seen("x", "1"), &host, None)
            .expect("to do")
            .0
            .update
            .len(),
        1
    );
}

#[test]
fn static_pods_are_not_resized() {
    let mut of_file = pod("2", 2);
    of_file.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
    let state = State::new(&pod("1", 1), None, &Observed::default());
    let expected = Verdict::Infeasible("In-place resize of static-pods is not supported".into());
    assert_eq!(state.asks(&of_file), Err(Some(expected)));
}
