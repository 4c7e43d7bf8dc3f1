use super::*;
use std::time::Duration;

const IDS: Ids = Ids {
    error: 1,
    stdin: Some(3),
    stdout: Some(5),
    stderr: None,
    resize: Some(7),
};

fn decoded(message: &[u8]) -> Vec<Frame> {
    to_frames(message, IDS)
        .into_iter()
        .map(|bytes| {
            spdy::decode(&mut BytesMut::from(&bytes[..]))
                .expect("valid")
                .expect("whole")
        })
        .collect()
}

#[test]
fn messages_become_frames_of_their_stream() {
    let data = |stream, payload: &'static [u8], fin| Frame::Data {
        stream,
        payload: Bytes::from_static(payload),
        fin,
    };
    assert_eq!(decoded(b"\0hi"), [data(3, b"hi", false)]);
    assert_eq!(decoded(b"\x04{}"), [data(7, b"{}", false)]);
    assert_eq!(decoded(b"\xff\0"), [data(3, b"", true)]);
    for nothing in [&b""[..], b"\0", b"\x01stdout", b"\xff\x01", b"\x09x"] {
        assert_eq!(decoded(nothing), [], "{nothing:?}");
    }
    let large = [vec![0u8], vec![7u8; 150_000]].concat();
    assert_eq!(decoded(&large).len(), 3, "large messages are split");
}

/// The whole way over in-memory pipes: piped stdin ends, output and status come back.
#[tokio::test]
async fn piped_stdin_ends_and_the_status_comes_back() {
    let (client_side, server_side) = tokio::io::duplex(64 * 1024);
    let (runtime_side, mut far) = tokio::io::duplex(64 * 1024);
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: false,
    };
    let server = tokio::spawn(async move {
        run(
            websocket(server_side).await,
            runtime_side,
            streams,
            Dialect::of(Some("v5.channel.k8s.io")),
            None,
        )
        .await
    });
    // A runtime that answers what it reads, once stdin has ended.
    let runtime = tokio::spawn(async move {
        let (mut buffer, mut heard) = (BytesMut::new(), Vec::new());
        loop {
            while let Some(frame) = spdy::decode(&mut buffer).expect("valid") {
                if let Frame::Data {
                    stream: 3,
                    payload,
                    fin,
                } = frame
                {
                    heard.extend_from_slice(&payload);
                    if fin {
                        let mut out = BytesMut::new();
                        spdy::data(5, &heard, true, &mut out);
                        spdy::data(1, b"{\"status\":\"Success\"}", true, &mut out);
                        far.write_all(&out).await.expect("written");
                        return far;
                    }
                }
            }
            assert!(far.read_buf(&mut buffer).await.expect("read") > 0, "ended too early");
        }
    });
    let mut client = WebSocketStream::from_raw_socket(client_side, Role::Client, None).await;
    for message in [&b"\0one "[..], b"\0two", b"\xff\0"] {
        client
            .send(Message::Binary(Bytes::copy_from_slice(message)))
            .await
            .expect("sent");
    }
    let mut got = Vec::new();
    while let Some(Ok(message)) = tokio::time::timeout(Duration::from_secs(10), client.next())
        .await
        .expect("in time")
    {
        match message {
            Message::Binary(payload) => got.push(payload.to_vec()),
            Message::Close(frame) => {
                assert_eq!(frame.expect("a reason").code, CloseCode::Normal);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(got, [b"\x01one two".to_vec(), b"\x03{\"status\":\"Success\"}".to_vec()]);
    drop(runtime.await.expect("ended"));
    server.await.expect("ended").expect("no error");
}
