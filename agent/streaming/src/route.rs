//! From a request's path and query to what is asked for. Pure. The paths are
//! the kubelet's, since API servers dial them.

use crate::error::EndpointError;
use crate::logs::LogOptions;
use crate::runtime::{MetricsPage, Streams};
use percent_encoding::percent_decode_str;

/// Arguments of one exec; the API server bounds the URL, this bounds the work.
const COMMAND_ARGUMENTS_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// One check, or all of them; `verbose`: each is named.
    Healthz {
        check: Option<&'static str>,
        verbose: bool,
    },
    Pods,
    RunningPods,
    Configz,
    /// What the component is and how it was started, by its path.
    About(&'static str),
    Metrics(MetricsPage),
    Summary {
        only_cpu_and_memory: bool,
    },
    /// Path below the system's logs.
    SystemLogs(String),
    Run {
        target: Target,
        command: Vec<String>,
    },
    Logs {
        target: Target,
        options: LogOptions,
        previous: bool,
    },
    Exec {
        target: Target,
        command: Vec<String>,
        streams: Streams,
    },
    Attach {
        target: Target,
        streams: Streams,
    },
    PortForward {
        namespace: String,
        pod: String,
        ports: Vec<i32>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

pub fn parse(path: &str, query: &str) -> Result<Route, EndpointError> {
    let decoded: Vec<String> = path
        .trim_start_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match parts.as_slice() {
        ["healthz"] => Ok(Route::Healthz {
            check: None,
            verbose: query.iter().any(|(key, _)| key == "verbose"),
        }),
        ["healthz", name] => match CHECKS.iter().find(|check| *check == name) {
            Some(check) => Ok(Route::Healthz {
                check: Some(check),
                verbose: false,
            }),
            None => Err(no_page()),
        },
        ["pods"] | ["pods", ""] => Ok(Route::Pods),
        ["runningpods"] | ["runningpods", ""] => Ok(Route::RunningPods),
        ["configz"] => Ok(Route::Configz),
        ["statusz"] => Ok(Route::About("/statusz")),
        ["flagz"] => Ok(Route::About("/flagz")),
        ["metrics"] => Ok(Route::Metrics(MetricsPage::Own)),
        ["metrics", "resource"] => Ok(Route::Metrics(MetricsPage::Resource)),
        ["metrics", "cadvisor"] => Ok(Route::Metrics(MetricsPage::Cadvisor)),
        ["metrics", "probes"] => Ok(Route::Metrics(MetricsPage::Probes)),
        ["stats", "summary"] => Ok(Route::Summary {
            only_cpu_and_memory: flag(&query, "only_cpu_and_memory"),
        }),
        ["logs", rest @ ..] => Ok(Route::SystemLogs(rest.join("/"))),
        ["run", namespace, pod, container] | ["run", namespace, pod, _, container] => Ok(Route::Run {
            target: target(namespace, pod, container)?,
            command: all(&query, "cmd")
                .flat_map(|c| c.split(' '))
                .map(str::to_string)
                .collect(),
        }),
        ["checkpoint", namespace, pod, container] => Err(EndpointError::NotFound(format!(
            "checkpointing of {namespace}/{pod}/{container} failed (the container runtime does not support it)"
        ))),
        ["containerLogs", namespace, pod, container] => {
            let (options, previous) = log_options(&query)?;
            Ok(Route::Logs {
                target: target(namespace, pod, container)?,
                options,
                previous,
            })
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            let command: Vec<String> = all(&query, "command").map(str::to_string).collect();
            if command.is_empty() {
                return Err(EndpointError::BadRequest(
                    "you must specify at least 1 command for the container to execute".into(),
                ));
            }
            if command.len() > COMMAND_ARGUMENTS_MAX {
                return Err(EndpointError::BadRequest(format!(
                    "at most {COMMAND_ARGUMENTS_MAX} arguments can be executed"
                )));
            }
            Ok(Route::Exec {
                target: target(namespace, pod, container)?,
                command,
                streams: streams(&query)?,
            })
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => Ok(Route::Attach {
            target: target(namespace, pod, container)?,
            streams: streams(&query)?,
        }),
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            let ports: Result<Vec<i32>, EndpointError> = all(&query, "port")
                .chain(all(&query, "ports"))
                .flat_map(|list| list.split(','))
                .map(|text| match text.parse::<u16>() {
                    Ok(port) if port > 0 => Ok(i32::from(port)),
                    _ => Err(EndpointError::BadRequest(format!("{text:?} is no port number"))),
                })
                .collect();
            Ok(Route::PortForward {
                namespace: (*namespace).into(),
                pod: (*pod).into(),
                ports: ports?,
            })
        }
        _ => Err(no_page()),
    }
}

/// As upstream names what makes up its health.
pub const CHECKS: [&str; 3] = ["ping", "log", "syncloop"];

fn no_page() -> EndpointError {
    EndpointError::NotFound("404 page not found\n".into())
}

fn target(namespace: &str, pod: &str, container: &str) -> Result<Target, EndpointError> {
    if namespace.is_empty() || pod.is_empty() || container.is_empty() {
        return Err(EndpointError::BadRequest(
            "the path must name namespace, pod and container".into(),
        ));
    }
    Ok(Target {
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
    })
}

fn all<'a>(query: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    query
        .iter()
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

fn first<'a>(query: &'a [(String, String)], name: &'a str) -> Option<&'a str> {
    all(query, name).next().filter(|value| !value.is_empty())
}

fn flag(query: &[(String, String)], name: &str) -> bool {
    first(query, name).is_some_and(|value| matches!(value, "1" | "true" | "True" | "TRUE" | "t"))
}

/// The kubelet says input, output, error; the API server stdin, stdout, stderr.
fn streams(query: &[(String, String)]) -> Result<Streams, EndpointError> {
    let either = |kubelet: &str, api: &str| flag(query, kubelet) || flag(query, api);
    let tty = flag(query, "tty");
    let streams = Streams {
        stdin: either("input", "stdin"),
        stdout: either("output", "stdout"),
        // A terminal has one output.
        stderr: either("error", "stderr") && !tty,
        tty,
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(EndpointError::BadRequest(
            "you must specify at least 1 of stdin, stdout, stderr".into(),
        ));
    }
    Ok(streams)
}

fn log_options(query: &[(String, String)]) -> Result<(LogOptions, bool), EndpointError> {
    let number = |name: &str| match first(query, name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(EndpointError::BadRequest(format!(
                "{name}: {text:?} is no number of at least 0"
            ))),
        },
    };
    let since_time = match first(query, "sinceTime") {
        None => None,
        Some(text) => Some(
            text.parse::<jiff::Timestamp>()
                .map_err(|_| EndpointError::BadRequest(format!("sinceTime: {text:?} is no RFC 3339 time")))?,
        ),
    };
    let (mut stdout, mut stderr) = (true, true);
    match first(query, "stream") {
        None | Some("All") => {}
        Some("Stdout") => stderr = false,
        Some("Stderr") => stdout = false,
        Some(other) => {
            return Err(EndpointError::BadRequest(format!(
                "stream: {other:?} is none of All, Stdout, Stderr"
            )));
        }
    }
    let options = LogOptions {
        follow: flag(query, "follow"),
        timestamps: flag(query, "timestamps"),
        tail_lines: number("tailLines")?,
        limit_bytes: number("limitBytes")?,
        since_seconds: number("sinceSeconds")?,
        since_time,
        stdout,
        stderr,
    };
    Ok((options, flag(query, "previous")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_with_the_kubelets_words() {
        let route = parse(
            "/exec/default/web-1/web",
            "command=sh&command=-c&command=echo+hi%20there&input=1&output=1&error=1",
        )
        .expect("a route");
        let Route::Exec {
            target,
            command,
            streams,
        } = route
        else {
            panic!("{route:?}")
        };
        assert_eq!(
            target,
            Target {
                namespace: "default".into(),
                pod: "web-1".into(),
                container: "web".into()
            }
        );
        assert_eq!(command, ["sh", "-c", "echo hi there"]);
        assert_eq!(
            streams,
            Streams {
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false
            }
        );
    }

    #[test]
    fn pages() {
        for (path, query, expected) in [
            ("/metrics", "", Route::Metrics(MetricsPage::Own)),
            ("/metrics/cadvisor", "", Route::Metrics(MetricsPage::Cadvisor)),
            ("/logs/", "", Route::SystemLogs(String::new())),
            ("/logs/a/b%20c", "", Route::SystemLogs("a/b c".into())),
            ("/runningpods/", "", Route::RunningPods),
            ("/statusz", "", Route::About("/statusz")),
            ("/flagz", "", Route::About("/flagz")),
            (
                "/healthz/syncloop",
                "",
                Route::Healthz {
                    check: Some("syncloop"),
                    verbose: false,
                },
            ),
            (
                "/healthz",
                "verbose",
                Route::Healthz {
                    check: None,
                    verbose: true,
                },
            ),
            (
                "/stats/summary",
                "only_cpu_and_memory=true",
                Route::Summary {
                    only_cpu_and_memory: true,
                },
            ),
        ] {
            assert_eq!(parse(path, query).expect(path), expected, "{path}");
        }
        for nothing in ["/healthz/other", "/metrics/other", "/checkpoint/a/b/c", "/stats", "/"] {
            let error = parse(nothing, "").expect_err(nothing);
            assert_eq!(error.status(), http::StatusCode::NOT_FOUND, "{nothing}");
        }
    }

    #[test]
    fn a_terminal_has_no_stderr() {
        let route = parse(
            "/attach/default/web-1/web",
            "stdin=true&stdout=true&stderr=true&tty=true",
        )
        .expect("a route");
        let Route::Attach { streams, .. } = route else {
            panic!("{route:?}")
        };
        assert!(!streams.stderr && streams.tty);
    }

    #[test]
    fn mistakes_are_told() {
        let text = |path, query| parse(path, query).expect_err("a mistake").to_string();
        assert_eq!(
            text("/exec/d/p/c", "output=1"),
            "you must specify at least 1 command for the container to execute"
        );
        assert_eq!(
            text("/exec/d/p/c", "command=ls"),
            "you must specify at least 1 of stdin, stdout, stderr"
        );
        assert_eq!(text("/portForward/d/p", "port=99999"), "\"99999\" is no port number");
        assert_eq!(
            text("/containerLogs/d/p/c", "tailLines=-1"),
            "tailLines: \"-1\" is no number of at least 0"
        );
        assert_eq!(text("/nothing", ""), "404 page not found\n");
    }
}
