//! A receiver that hangs up on a message that is longer than it takes, as syslog-ng does.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::config::{BatchConfig, Format, RetryConfig, Rfc, SeverityRule, SinkKind, TlsConfig};
use crate::normalize::Profile;

const LIMIT: Duration = Duration::from_secs(20);
/// Octets of a message that the receiver takes.
const TAKEN: usize = 10_000;

fn sink(port: u16) -> SyslogSink {
    let syslog = SyslogConfig {
        address: SyslogAddress::Tcp { host: "127.0.0.1".into(), port },
        rfc: Rfc::Rfc5424,
        framing: Framing::OctetCounting,
        facility: 16,
        severity: SeverityRule::Outcome,
        app_name: "o365".into(),
        hostname: None,
        proc_id: None,
        msg_id: "x".into(),
        sd_id: None,
        structured_data: Vec::new(),
        bom: false,
        max_size: None,
        oversize: Oversize::DeadLetter,
        tls: TlsConfig::default(),
        connect_timeout: LIMIT,
        timeout: LIMIT,
        keepalive: None,
        resend: 1 << 20,
    };
    let config = SinkConfig {
        name: "siem".into(),
        required: true,
        format: Format::Raw,
        ecs_profile: Profile::Auditferry,
        when: None,
        edit: Default::default(),
        rate_limit: None,
        batch: BatchConfig { max_bytes: 1, max_events: 1, linger: Duration::ZERO, concurrency: 1 },
        retry: RetryConfig { initial: Duration::ZERO, max: Duration::ZERO },
        kind: SinkKind::Syslog(syslog.clone()),
    };
    SyslogSink::new(&config, &syslog, Metrics::new()).unwrap()
}

/// With so small a buffer that no long message is acknowledged unread.
fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(16).unwrap()
}

/// Reads frames and tells their sizes, 0 for a connection; hangs up on one that is too long, as soon as it knows
/// (`in_time`), or after it has read it.
fn receive(listener: TcpListener, in_time: bool) -> mpsc::Receiver<usize> {
    let (tell, heard) = mpsc::channel(10_000);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            _ = tell.send(0).await;
            let mut stream = BufReader::new(stream);
            loop {
                let mut size = Vec::new();
                if stream.read_until(b' ', &mut size).await.unwrap_or(0) == 0 {
                    break;
                }
                let size: usize = String::from_utf8(size).unwrap().trim().parse().unwrap();
                if size > TAKEN && in_time {
                    break;
                }
                let mut frame = vec![0; size];
                if stream.read_exact(&mut frame).await.is_err() {
                    break;
                }
                if size > TAKEN {
                    // Until the sender has seen that it is acknowledged.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
                _ = tell.send(size).await;
            }
        }
    });
    heard
}

fn batch(sizes: &[usize]) -> EncodedBatch {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for size in sizes {
        bytes.push(message::WHOLE);
        bytes.resize(bytes.len() + size, b'x');
        ends.push(bytes.len());
    }
    EncodedBatch { bytes, ends }
}

async fn send_until<T>(
    sink: &SyslogSink,
    sizes: &[usize],
    wanted: impl Fn(Result<Accepted, SendError>) -> Option<T>,
) -> T {
    let batch = batch(sizes);
    let tried = async {
        loop {
            if let Some(found) = wanted(sink.send(&batch).await) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, tried).await.expect("in time")
}

#[tokio::test]
async fn a_batch_that_the_receiver_hangs_up_on_is_halved_if_a_long_message_is_in_it() {
    let listener = listener();
    let sink = sink(listener.local_addr().unwrap().port());
    let _heard = receive(listener, true);
    let (cause, reason) = send_until(&sink, &[100, 4_000_000], |result| match result {
        Err(SendError::Split { cause, reason }) => Some((cause, reason)),
        Err(SendError::Retry { reason, .. }) => {
            assert!(!reason.contains("closed") || reason.contains("`max_size`"), "{reason}");
            None
        }
        other => panic!("{other:?}"),
    })
    .await;
    assert!(cause.contains("hangs up") && reason.contains("4000000") && reason.contains("`max_size`"), "{reason}");
    send_until(&sink, &[100], Result::ok).await;
    send_until(&sink, &[4_000_000], |result| matches!(result, Err(SendError::Split { .. })).then_some(())).await;
    send_until(&sink, &[200], Result::ok).await;
}

#[tokio::test]
async fn short_messages_are_never_what_a_receiver_hangs_up_on() {
    let listener = listener();
    let sink = sink(listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.unwrap();
        }
    });
    let many = vec![8000; 1000];
    for _ in 0..10 {
        assert!(matches!(sink.send(&batch(&many)).await, Err(SendError::Retry { .. })));
    }
}

#[tokio::test]
async fn what_is_sent_again_becomes_less_until_the_receiver_stays() {
    let listener = listener();
    let sink = sink(listener.local_addr().unwrap().port());
    let mut heard = receive(listener, false);
    // All of it is acknowledged, since the receiver reads the long one before it hangs up.
    send_until(&sink, &[100, 101, TAKEN + 1], Result::ok).await;
    // Nothing new comes while it is so: the ring alone must let go of it.
    let mut connections = 0;
    let stays = async {
        loop {
            match timeout(Duration::from_secs(2), heard.recv()).await {
                Ok(Some(0)) => connections += 1,
                Ok(Some(_)) => {}
                _ => return,
            }
        }
    };
    timeout(LIMIT, stays).await.expect("the receiver is left in peace");
    assert!((5..=9).contains(&connections), "{connections}");
    send_until(&sink, &[300], Result::ok).await;
    let last = async { while heard.recv().await != Some(300) {} };
    timeout(LIMIT, last).await.expect("what comes after it arrives");
}
