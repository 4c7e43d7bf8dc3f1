use super::*;
use crate::authentication::bootstrap_token::user_of;
use crate::fake::Fake;

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn text_round_trip() {
    let token = JoinToken::generate(HASH);
    assert_eq!(token.reveal().parse::<JoinToken>().unwrap(), token);
    assert_eq!(format!(" {}\n", token.reveal()).parse::<JoinToken>().unwrap(), token);
    assert!(!format!("{token:?}").contains(&token.secret));
}

#[test]
fn wrong_texts_say_what_is_wrong() {
    let good = format!("skiff1.{HASH}.abcdef.0123456789abcdef");
    assert!(good.parse::<JoinToken>().is_ok());
    for (text, error) in [
        (String::new(), TokenError::Empty),
        ("abcdef.0123456789abcdef".into(), TokenError::Prefix),
        (good.replace("skiff1", "skiff2"), TokenError::Version),
        (format!("skiff1.{HASH}.abcdef"), TokenError::Parts),
        (format!("{good}.x"), TokenError::Parts),
        (good.replace("0123456789abcdef0123", "0123"), TokenError::Hash),
        (good.replace("abcdef.0", "ABCDEF.0"), TokenError::Secret),
        (good[..good.len() - 1].to_string(), TokenError::Secret),
    ] {
        assert_eq!(text.parse::<JoinToken>().unwrap_err(), error, "{text}");
    }
}

#[test]
fn the_secret_object_authenticates_until_it_expires() {
    let token: JoinToken = format!("skiff1.{HASH}.abcdef.0123456789abcdef").parse().unwrap();
    let groups = vec!["system:bootstrappers:skiff:agents".to_string()];
    let secret = token.secret_object(Some(at("2026-01-02T00:00:00Z")), "for a test", &groups);
    assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
    let objects = Fake::with(vec![secret.clone()]);
    let user = user_of(&token.id, &token.secret, &objects, at("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(
        user.groups,
        [
            "system:authenticated",
            "system:bootstrappers",
            "system:bootstrappers:skiff:agents"
        ]
    );
    assert!(user_of(&token.id, &token.secret, &objects, at("2026-01-02T00:00:00Z")).is_err());
    assert!(user_of(&token.id, "0123456789abcdee", &objects, at("2026-01-01T00:00:00Z")).is_err());
    assert!(user_of("abcdeg", &token.secret, &objects, at("2026-01-01T00:00:00Z")).is_err());
    let mut unusable = secret.clone();
    unusable["data"]["usage-bootstrap-authentication"] = STANDARD.encode("false").into();
    assert!(
        user_of(
            &token.id,
            &token.secret,
            &Fake::with(vec![unusable]),
            at("2026-01-01T00:00:00Z")
        )
        .is_err()
    );
    let mut masters = secret;
    masters["data"]["auth-extra-groups"] = STANDARD.encode("system:masters").into();
    assert!(
        user_of(
            &token.id,
            &token.secret,
            &Fake::with(vec![masters]),
            at("2026-01-01T00:00:00Z")
        )
        .is_err()
    );
}
