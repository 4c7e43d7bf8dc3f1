use super::*;
use std::time::Duration;
use tokio::net::TcpListener;

fn header(name: &str, value: &str) -> HTTPHeader {
    HTTPHeader {
        name: name.into(),
        value: value.into(),
    }
}

#[test]
fn requests_are_those_of_a_prober() {
    let url = Url::new(Some("HTTP"), "10.42.0.5", 8080, Some("health?x=1#y"));
    assert_eq!(url.to_string(), "http://10.42.0.5:8080/health?x=1");
    assert_eq!(
        request(&url, &[], "kube-probe/1.36"),
        "GET /health?x=1 HTTP/1.1\r\nHost: 10.42.0.5:8080\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    let own = [
        header("host", "web.example"),
        header("X-A", "1"),
        header("x-a", "2"),
        header("Accept", ""),
        header("User-Agent", "me"),
    ];
    assert_eq!(
        request(&url, &own, "kube-probe/1.36"),
        "GET /health?x=1 HTTP/1.1\r\nHost: web.example\r\nX-A: 1\r\nx-a: 2\r\nUser-Agent: me\r\n\
         Connection: close\r\n\r\n"
    );
    assert_eq!(
        Url::new(Some("https"), "fd00::5", 1, None).to_string(),
        "https://[fd00::5]:1/"
    );
}

#[test]
fn redirects_lead_somewhere() {
    let from = Url::new(None, "10.42.0.5", 8080, Some("/a/b?x"));
    for (location, expected) in [
        ("/c", "http://10.42.0.5:8080/c"),
        ("c?y#z", "http://10.42.0.5:8080/a/c?y"),
        ("?y", "http://10.42.0.5:8080/a/b?y"),
        ("http://10.42.0.5/d", "http://10.42.0.5/d"),
        ("https://10.42.0.5:8443", "https://10.42.0.5:8443/"),
        ("//other:81/e", "http://other:81/e"),
    ] {
        assert_eq!(
            from.follow(location).map(|u| u.to_string()).as_deref(),
            Some(expected),
            "{location}"
        );
    }
    assert_eq!(from.follow("ftp://other/"), None);
}

/// Serves each of these answers to one connection, in order.
async fn serve(answers: Vec<String>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_err() {
                    break;
                }
                seen.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    });
    port
}

async fn ask(answers: &[&str]) -> Result<Answer, String> {
    let port = serve(answers.iter().map(|a| (*a).to_owned()).collect()).await;
    let url = Url::new(None, "127.0.0.1", port, Some("/start"));
    let deadline = Deadline::now() + Duration::from_secs(20);
    let outcome = get(&url, &[], "test", deadline).await;
    outcome.map_err(|e| e.replace(&port.to_string(), "PORT"))
}

#[tokio::test]
async fn answers_are_judged_by_their_status() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(ask(&[ok]).await.map(|a| a.status), Ok(200));
    let failed = ask(&["HTTP/1.0 503 No\r\n\r\nbroken"]).await;
    assert_eq!(
        failed,
        Ok(Answer {
            status: 503,
            body: "broken".into()
        })
    );
    let local = "HTTP/1.1 302 Found\r\nlocation: /next\r\n\r\n";
    assert_eq!(ask(&[local, local, ok]).await.map(|a| a.status), Ok(200));
    let by_a_script = "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /next\n\n";
    assert_eq!(ask(&[by_a_script, ok]).await.map(|a| a.status), Ok(200));
    let away = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\nmoved";
    assert_eq!(
        ask(&[away]).await,
        Ok(Answer {
            status: 302,
            body: "moved".into()
        })
    );
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    assert_eq!(ask(&[early]).await.map(|a| a.status), Ok(204));
    let circle = vec![local; 10];
    assert_eq!(
        ask(&circle).await,
        Err("Get \"http://127.0.0.1:PORT/next\": stopped after 10 redirects".into())
    );
}

#[tokio::test]
async fn failures_are_told_in_the_words_of_go() {
    assert_eq!(ask(&[""]).await, Err("Get \"http://127.0.0.1:PORT/start\": EOF".into()));
    let other = ask(&["SSH-2.0-x\r\n"]).await;
    assert_eq!(
        other,
        Err(
            "Get \"http://127.0.0.1:PORT/start\": net/http: HTTP/1.x transport connection broken: malformed HTTP \
             response \"SSH-2.0-x\""
                .into()
        )
    );
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let port = closed.local_addr().expect("bound").port();
    let silent = Url::new(None, "127.0.0.1", port, None);
    let soon = Deadline::now() + Duration::from_millis(50);
    assert_eq!(
        get(&silent, &[], "test", soon).await,
        Err(format!(
            "Get \"http://127.0.0.1:{port}/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ))
    );
    drop(closed);
    let later = Deadline::now() + Duration::from_secs(20);
    assert_eq!(
        get(&silent, &[], "test", later).await,
        Err(format!(
            "Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        ))
    );
}
