//! Webhook configurations and admission policies: what is told without
//! compiling their expressions.

use super::{defaulted, errors};
use serde_json::{Value, json};

const WEBHOOKS: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";

fn hook(key: &str, value: Value) -> Value {
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let mut hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://h/p"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [rule]});
    match key.split_once('.') {
        None => hook[key] = value,
        Some((_, of_rule)) => hook["rules"][0][of_rule] = value,
    }
    json!({ "webhooks": [hook] })
}

#[test]
fn webhooks_have_defaults() {
    let made = defaulted(
        MUTATING,
        hook("clientConfig", json!({"service": {"namespace": "n", "name": "s"}})),
    );
    let hook = &made["webhooks"][0];
    assert_eq!(hook["clientConfig"]["service"]["port"], 443);
    assert_eq!(hook["rules"][0]["scope"], "*");
    assert_eq!(
        (&hook["failurePolicy"], &hook["matchPolicy"]),
        (&json!("Fail"), &json!("Equivalent"))
    );
    assert_eq!(
        (&hook["timeoutSeconds"], &hook["reinvocationPolicy"]),
        (&json!(10), &json!("Never"))
    );
    assert_eq!(
        (&hook["namespaceSelector"], &hook["objectSelector"]),
        (&json!({}), &json!({}))
    );
}

#[test]
fn webhooks_are_checked() {
    let service = |key: &str, value: Value| {
        let mut service = json!({"namespace": "n", "name": "s", "port": 443});
        service[key] = value;
        json!({ "service": service })
    };
    assert_eq!(errors(WEBHOOKS, hook("sideEffects", json!("None"))), [""; 0]);
    let cases = [
        (
            "name",
            json!("a.b"),
            "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (
            "sideEffects",
            json!("Some"),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            "timeoutSeconds",
            json!(31),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            "admissionReviewVersions",
            json!(["v2"]),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "admissionReviewVersions",
            json!(["v1", "v1"]),
            "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            "clientConfig",
            json!({}),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            "clientConfig",
            json!({"url": "http://h"}),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            "clientConfig",
            json!({"url": "https://u@h?q"}),
            "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
        ),
        (
            "clientConfig",
            service("port", json!(0)),
            "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
        ),
        (
            "clientConfig",
            service("path", json!("/a//b")),
            "webhooks[0].clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        (
            "clientConfig",
            service("path", json!("a")),
            "webhooks[0].clientConfig.service.path: Invalid value: \"a\": must start with a '/'",
        ),
        (
            "rule.operations",
            json!(["*", "CREATE"]),
            "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            "rule.operations",
            json!(["PATCH"]),
            "webhooks[0].rules[0].operations[0]: Unsupported value: \"PATCH\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ),
        (
            "rule.apiVersions",
            json!([]),
            "webhooks[0].rules[0].apiVersions: Required value",
        ),
        (
            "rule.resources",
            json!(["pods/*", "pods/exec"]),
            "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/exec\": if 'pods/*' is present, must not specify pods/exec",
        ),
        (
            "rule.resources",
            json!(["*", "pods"]),
            "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
        ),
        (
            "rule.scope",
            json!("Pod"),
            "webhooks[0].rules[0].scope: Unsupported value: \"Pod\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]),
            "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
        ),
        (
            "matchConditions",
            json!([{"name": "a b", "expression": ""}]),
            "webhooks[0].matchConditions[0].expression: Required value",
        ),
    ];
    for (key, value, want) in cases {
        let found = errors(WEBHOOKS, hook(key, value.clone()));
        assert!(found.iter().any(|text| text == want), "{key} {value}: {found:#?}");
    }
}

#[test]
fn policies_are_checked() {
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let policy = |key: &str, value: Value| {
        let mut spec = json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}]});
        spec[key] = value;
        json!({ "spec": spec })
    };
    assert_eq!(errors(POLICIES, policy("failurePolicy", json!("Ignore"))), [""; 0]);
    let cases = [
        (
            "matchConstraints",
            json!({}),
            "spec.matchConstraints.resourceRules: Required value",
        ),
        (
            "validations",
            json!([]),
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
        (
            "validations",
            json!([{"expression": " "}]),
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            "validations",
            json!([{"expression": "true", "message": "a\nb"}]),
            "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
        ),
        (
            "paramKind",
            json!({"apiVersion": "a/b/c", "kind": "K"}),
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        (
            "variables",
            json!([{"name": "in", "expression": "1"}]),
            "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier",
        ),
        (
            "auditAnnotations",
            json!([{"key": "k", "valueExpression": ""}]),
            "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
        ),
    ];
    for (key, value, want) in cases {
        let found = errors(POLICIES, policy(key, value.clone()));
        assert!(found.iter().any(|text| text == want), "{key} {value}: {found:#?}");
    }
    let binding = |key: &str, value: Value| {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        spec[key] = value;
        json!({ "spec": spec })
    };
    let both = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                response and headers serves no purpose)";
    let cases = [
        (
            "validationActions",
            json!([]),
            "spec.validationActions: Required value: at least one validation action is required".to_string(),
        ),
        (
            "validationActions",
            json!(["Deny", "Warn"]),
            format!("spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: {both}"),
        ),
        (
            "paramRef",
            json!({"name": "n", "selector": {}, "parameterNotFoundAction": "Deny"}),
            "spec.paramRef.name: Forbidden: name and selector are mutually exclusive".to_string(),
        ),
        (
            "paramRef",
            json!({"name": "n"}),
            "spec.paramRef.parameterNotFoundAction: Required value".to_string(),
        ),
    ];
    for (key, value, want) in cases {
        let found = errors(BINDINGS, binding(key, value.clone()));
        assert!(found.contains(&want), "{key} {value}: {found:#?}");
    }
}
