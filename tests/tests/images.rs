//! Where images come from and who may use them: policies, pull secrets, mirrors,
//! private CAs, changes of the file while the node runs. One cluster with registries of
//! its own on the host's loopback.

use anyhow::{Context, Result, ensure};
use skiff_tests::registry::Options;
use skiff_tests::{Cluster, Network, Programs, until};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const OPEN: &str = "127.0.0.1:27201";
const BASIC: &str = "127.0.0.1:27202";
const TOKEN: &str = "127.0.0.1:27203";
const MIRROR: &str = "127.0.0.1:27204";
/// A registry that is only there by its mirror.
const GONE: &str = "127.0.0.1:27299";

#[test]
fn images_come_from_where_they_should() -> Result<()> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let mut cluster = Cluster::new(programs, Network { id: 217 })?;
    cluster.add_host()?;
    start_registries(&cluster)?;
    write_registries(&cluster, "")?;
    let file = registries_file(&cluster);
    cluster.start_server(&["--private-registry", &file.to_string_lossy()])?;
    cluster.wait_ready(1)?;
    policies(&cluster)?;
    pull_secrets(&cluster)?;
    mirrors_and_private_authorities(&cluster)?;
    image_volumes(&cluster)
}

fn registries_file(cluster: &Cluster) -> PathBuf {
    cluster.hosts[0].dir.join("etc/registries.yaml")
}

/// As an editor does: beside, then in its place.
fn write_registries(cluster: &Cluster, text: &str) -> Result<()> {
    let file = registries_file(cluster);
    std::fs::create_dir_all(file.parent().context("has one")?)?;
    std::fs::write(file.with_extension("new"), text)?;
    Ok(std::fs::rename(file.with_extension("new"), file)?)
}

fn start_registries(cluster: &Cluster) -> Result<()> {
    let host = &cluster.hosts[0];
    let authority = rcgen::CertifiedIssuer::self_signed(
        {
            let mut params = rcgen::CertificateParams::new(Vec::new())?;
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params
        },
        rcgen::KeyPair::generate()?,
    )?;
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    let write = |name: &str, text: String| -> Result<PathBuf> {
        let path = host.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    write("ca.crt", authority.pem())?;
    let tls = (write("tls.crt", leaf.pem())?, write("tls.key", key.serialize_pem())?);
    let base = Options {
        archive: cluster.programs.images.join("web.tar"),
        ..Options::default()
    };
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    for options in [
        Options {
            listen: OPEN.into(),
            log: Some(host.dir.join("open.log")),
            images: names(&["web:1", "web:latest", "other:1"]),
            ..base.clone()
        },
        Options {
            listen: BASIC.into(),
            user: Some("me:sesame".into()),
            images: names(&["team/app:1"]),
            ..base.clone()
        },
        Options {
            listen: TOKEN.into(),
            user: Some("me:sesame".into()),
            token: true,
            images: names(&["team/app:1"]),
            ..base.clone()
        },
        Options {
            listen: MIRROR.into(),
            user: Some("node:word".into()),
            tls: Some(tls),
            log: Some(host.dir.join("mirror.log")),
            images: names(&["team/mirrored:1", "copies/renamed:1"]),
            ..base
        },
    ] {
        let log = std::fs::File::create(host.dir.join(format!("registry-{}.log", options.listen)))?;
        host.command(&cluster.programs.testhost.to_string_lossy())
            .arg("registry")
            .args(options.words())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
    }
    Ok(())
}

/// A pod that runs, or waits, with the image; `more` is put into its spec.
fn pod(cluster: &Cluster, name: &str, image: &str, policy: &str, more: &str) -> Result<()> {
    let manifest = format!(
        "# Not JSON.\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, \
         containers: [{{name: c, image: \"{image}\", imagePullPolicy: {policy}}}]{more}}}}}"
    );
    cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest).map(drop)
}

fn runs(cluster: &Cluster, name: &str) -> Result<()> {
    let pod = format!("pod/{name}");
    let waited = cluster.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]);
    waited
        .map(drop)
        .with_context(|| events(cluster, name).unwrap_or_default())
}

fn events(cluster: &Cluster, name: &str) -> Result<String> {
    let selector = format!("--field-selector=involvedObject.name={name}");
    let columns = "-o=custom-columns=R:.reason,M:.message";
    cluster.kubectl(&["get", "events", &selector, columns, "--no-headers"])
}

/// Whether the container's waiting reason and an event of the pod are these.
fn waits(cluster: &Cluster, name: &str, reasons: &[&str], said: &str) -> Result<()> {
    let path = "-o=jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    until(LONG, said, || {
        let reason = cluster.kubectl(&["get", "pod", name, path])?;
        let events = events(cluster, name)?;
        Ok(if reasons.contains(&reason.as_str()) && events.contains(said) {
            Ok(())
        } else {
            Err(format!("{reason}\n{events}"))
        })
    })
}

fn has_event(cluster: &Cluster, name: &str, said: &str) -> Result<()> {
    until(LONG, said, || {
        let events = events(cluster, name)?;
        Ok(if events.contains(said) { Ok(()) } else { Err(events) })
    })
}

const PULL: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

fn asked(cluster: &Cluster, log: &str, what: &str) -> Result<usize> {
    let text = std::fs::read_to_string(cluster.hosts[0].dir.join(log))?;
    Ok(text.lines().filter(|line| line.contains(what)).count())
}

fn policies(cluster: &Cluster) -> Result<()> {
    let web = format!("{OPEN}/web:1");
    pod(cluster, "never", &web, "Never", "")?;
    let said = format!("Container image \"{web}\" is not present with pull policy of Never");
    waits(cluster, "never", &["ErrImageNeverPull"], &said)?;
    pod(cluster, "first", &web, "IfNotPresent", "")?;
    runs(cluster, "first")?;
    has_event(cluster, "first", &format!("Pulling image \"{web}\""))?;
    has_event(cluster, "first", &format!("Successfully pulled image \"{web}\" in "))?;
    has_event(cluster, "first", "s including waiting). Image size: ")?;
    // It is there now, and nobody is asked for it.
    let before = asked(cluster, "open.log", "/web/manifests/1 ")?;
    pod(cluster, "second", &web, "IfNotPresent", "")?;
    runs(cluster, "second")?;
    let said = format!("Container image \"{web}\" already present on machine and can be accessed by the pod");
    has_event(cluster, "second", &said)?;
    ensure!(
        asked(cluster, "open.log", "/web/manifests/1 ")? == before,
        "asked again"
    );
    pod(cluster, "always", &web, "Always", "")?;
    runs(cluster, "always")?;
    ensure!(
        asked(cluster, "open.log", "/web/manifests/1 ")? > before,
        "not asked again"
    );
    pod(cluster, "untagged", &format!("{OPEN}/none"), "IfNotPresent", "")?;
    waits(cluster, "untagged", &PULL, &format!("{OPEN}/none:latest: not found"))?;
    has_event(cluster, "untagged", "Error: ErrImagePull")?;
    has_event(cluster, "untagged", &format!("Back-off pulling image \"{OPEN}/none\""))?;
    pod(cluster, "misnamed", "Not/AName", "IfNotPresent", "")?;
    let said = "couldn't parse image name \"Not/AName\": invalid reference format: repository name";
    waits(cluster, "misnamed", &["InvalidImageName"], said)
}

fn secret(cluster: &Cluster, name: &str, server: &str, password: &str) -> Result<()> {
    let (server, password) = (
        format!("--docker-server={server}"),
        format!("--docker-password={password}"),
    );
    let made = cluster.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        name,
        &server,
        "--docker-username=me",
        &password,
    ]);
    made.map(drop)
}

fn pull_secrets(cluster: &Cluster) -> Result<()> {
    let app = format!("{BASIC}/team/app:1");
    secret(cluster, "good", BASIC, "sesame")?;
    secret(cluster, "wrong", BASIC, "shut")?;
    secret(cluster, "token", &format!("http://{TOKEN}/team"), "sesame")?;
    let with = |names: &str| format!(", imagePullSecrets: [{names}]");
    pod(cluster, "nobody", &app, "IfNotPresent", &with("{name: absent}"))?;
    let missing = "Unable to retrieve some image pull secrets (absent); attempting to pull the image may not succeed.";
    waits(cluster, "nobody", &PULL, missing)?;
    has_event(cluster, "nobody", "FailedToRetrieveImagePullSecret")?;
    pod(cluster, "refused", &app, "IfNotPresent", &with("{name: wrong}"))?;
    waits(cluster, "refused", &PULL, "401 Unauthorized")?;
    // Of several, the one that is good counts.
    pod(
        cluster,
        "welcome",
        &app,
        "IfNotPresent",
        &with("{name: wrong}, {name: good}"),
    )?;
    runs(cluster, "welcome")?;
    // The image is there, but a pod that shows nothing may not use it.
    pod(cluster, "stranger", &app, "IfNotPresent", "")?;
    waits(cluster, "stranger", &PULL, "401 Unauthorized")?;
    pod(cluster, "offline", &app, "Never", "")?;
    waits(cluster, "offline", &["ErrImageNeverPull"], "ErrImageNeverPull")?;
    pod(cluster, "friend", &app, "Never", &with("{name: good}"))?;
    runs(cluster, "friend")?;
    // By the service account, and for a token.
    let account = r#"{"imagePullSecrets": [{"name": "token"}]}"#;
    cluster.kubectl(&["create", "serviceaccount", "puller"])?;
    cluster.kubectl(&["patch", "serviceaccount", "puller", "-p", account])?;
    let image = format!("{TOKEN}/team/app:1");
    pod(cluster, "account", &image, "Always", ", serviceAccountName: puller")?;
    runs(cluster, "account")
}

fn mirrors_and_private_authorities(cluster: &Cluster) -> Result<()> {
    let ca = cluster.hosts[0].dir.join("ca.crt").display().to_string();
    let mirrors = format!(
        "mirrors: {{\"{GONE}\": {{endpoint: [\"https://{MIRROR}\"], rewrite: {{\"^old/(.*)\": \"copies/$1\"}}}}}}\n"
    );
    let tls = |ca: &str| format!("tls: {{ca_file: \"{ca}\"}}");
    let login = "auth: {username: node, password: word}";
    // The mirror is found, but nobody trusts it.
    write_registries(cluster, &mirrors)?;
    told(cluster, &format!("[host.\"https://{MIRROR}\"]"))?;
    pod(
        cluster,
        "mirrored",
        &format!("{GONE}/team/mirrored:1"),
        "IfNotPresent",
        "",
    )?;
    waits(cluster, "mirrored", &PULL, "Failed to pull image")?;
    ensure!(asked(cluster, "mirror.log", "/v2/")? == 0, "the mirror was trusted");
    let trusted = format!("{mirrors}configs: {{\"{MIRROR}\": {{{}, {login}}}}}\n", tls(&ca));
    write_registries(cluster, &trusted)?;
    told(cluster, "ca = ")?;
    // What was pulled in vain waits; a new pod does not.
    pod(
        cluster,
        "mirrored2",
        &format!("{GONE}/team/mirrored:1"),
        "IfNotPresent",
        "",
    )?;
    runs(cluster, "mirrored2")?;
    ensure!(asked(cluster, "mirror.log", "/team/mirrored/manifests/1 200 node")? > 0);
    pod(cluster, "renamed", &format!("{GONE}/old/renamed:1"), "IfNotPresent", "")?;
    runs(cluster, "renamed")?;
    ensure!(asked(cluster, "mirror.log", "/copies/renamed/manifests/1 200 node")? > 0);
    let path = "-o=jsonpath={.status.containerStatuses[0].image} {.status.containerStatuses[0].imageID}";
    let shown = cluster.kubectl(&["get", "pod", "renamed", path])?;
    ensure!(
        shown.starts_with(&format!("{GONE}/old/renamed:1 {GONE}/old/renamed@sha256:")),
        "{shown}"
    );
    // A file with a mistake is told and changes nothing.
    write_registries(cluster, "mirrors: {r.io: {endpoint: [nowhere]}}\n")?;
    until(LONG, "the mistake is told", || {
        let events = cluster.kubectl(&["get", "events", "--field-selector=reason=InvalidRegistries"])?;
        let wanted = "endpoint \"nowhere\" must begin with http:// or https://";
        Ok(if events.contains(wanted) { Ok(()) } else { Err(events) })
    })?;
    pod(cluster, "still", &format!("{GONE}/team/mirrored:1"), "Always", "")?;
    runs(cluster, "still")
}

/// containerd has been told of the mirror like this.
fn told(cluster: &Cluster, line: &str) -> Result<()> {
    let file = cluster.hosts[0]
        .data_dir()
        .join(format!("agent/containerd/certs.d/{GONE}/hosts.toml"));
    until(LONG, line, || {
        let text = std::fs::read_to_string(&file)?;
        Ok(if text.contains(line) { Ok(()) } else { Err(text) })
    })
}

fn image_volumes(cluster: &Cluster) -> Result<()> {
    let other = format!("{OPEN}/other:1");
    let manifest = format!(
        "# Not JSON.\n{{apiVersion: v1, kind: Pod, metadata: {{name: holder}}, spec: {{terminationGracePeriodSeconds: 0, \
         volumes: [{{name: v, image: {{reference: \"{other}\", pullPolicy: IfNotPresent}}}}], \
         containers: [{{name: c, image: \"skiff.local/web:0.1.0\", volumeMounts: [{{name: v, mountPath: /v}}, \
         {{name: v, mountPath: /etc2, subPath: etc}}]}}]}}}}"
    );
    cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest)?;
    runs(cluster, "holder")?;
    has_event(cluster, "holder", &format!("Successfully pulled image \"{other}\""))?;
    let script = "test -x /v/web && cat /etc2/passwd && ! touch /v/x 2>/dev/null && echo sealed";
    let seen = cluster.kubectl(&["exec", "holder", "--", "sh", "-c", script])?;
    ensure!(seen.starts_with("root:") && seen.ends_with("sealed\n"), "{seen}");
    cluster.kubectl(&["delete", "pod", "holder"])?;
    // Without grace the API forgets the pod at once; the node cleans up behind it.
    let host = &cluster.hosts[0];
    until(LONG, "the image is unmounted", || {
        let mounts = String::from_utf8(host.command("cat").arg("/proc/self/mountinfo").output()?.stdout)?;
        let left = mounts.lines().find(|line| line.contains("kubernetes.io~image"));
        Ok(left.map_or(Ok(()), |line| Err(line.to_owned())))
    })?;
    let missing = manifest
        .replace("name: holder", "name: waiter")
        .replace("other:1", "other:9");
    cluster.kubectl_with_input(&["apply", "-f", "-"], &missing)?;
    waits(cluster, "waiter", &PULL, "other:9: not found")
}
