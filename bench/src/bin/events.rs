//! How long a report takes to those who follow, and what it costs the server, which runs on this machine.
//! usage: events ADDRESS PROCESS READERS SECONDS MILLISECONDS
//! Reports on a session every so many milliseconds; 0: on 16 sessions, each time the last is answered.
//! Prints reports, events, their 50th and 99th percentile in ms, µs of CPU for each report, and the MiB
//! of memory that the server takes up.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};

type Failure = Box<dyn Error + Send + Sync>;

/// What stands before the moment at which a session was reported, in µs since the start.
const MESSAGE: &[u8] = b"\"message\":\"at ";

/// How long the last events may take.
const REST: Duration = Duration::from_secs(2);

/// Sessions that are reported on at once.
const AT_ONCE: usize = 16;

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Follows until told to stop. Returns how long each event took, in µs.
async fn follow(
    address: String,
    start: Instant,
    opened: mpsc::Sender<()>,
    end: Instant,
) -> Result<Vec<u64>, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await?;
    let mut unread = Vec::new();
    let mut took = Vec::new();
    let mut is_open = false;
    loop {
        tokio::select! {
            read = stream.read_buf(&mut unread) => if read? == 0 {
                return Err("a stream ended".into());
            },
            () = sleep_until(end.into()) => return Ok(took),
        }
        let now = u64::try_from(start.elapsed().as_micros())?;
        while let Some(end) = find(&unread, b"\n\n") {
            let block: Vec<u8> = unread.drain(..end + 2).collect();
            if let Some(place) = find(&block, MESSAGE) {
                let digits = block[place + MESSAGE.len()..].iter();
                let digits = digits.take_while(|byte| byte.is_ascii_digit());
                let sent = digits.fold(0, |sent, digit| sent * 10 + u64::from(digit - b'0'));
                took.push(now.saturating_sub(sent));
            } else if !is_open && find(&block, b"id: ").is_some() {
                is_open = true;
                opened.send(()).await?;
            }
        }
    }
}

/// Reports on a session, `pause` after the last, until the end.
async fn report(
    address: String,
    session: usize,
    start: Instant,
    pause: Duration,
    end: Instant,
    reports: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; 4096];
    while Instant::now() < end {
        let body = format!(
            "{{\"agent_id\":\"agent\",\"session_topic\":\"session {session}\",\
            \"status\":\"running\",\"timestamp\":\"2026-01-01T00:00:00Z\",\
            \"message\":\"at {}, while it does what takes so many words\"}}",
            start.elapsed().as_micros()
        );
        let request = format!(
            "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut length = 0;
        while !answer[..length].ends_with(b"}") {
            let read = stream.read(&mut answer[length..]).await?;
            length += read;
            if read == 0 {
                return Err("no answer".into());
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(String::from_utf8_lossy(&answer[..length]).into());
        }
        reports.fetch_add(1, Ordering::Relaxed);
        sleep(pause).await;
    }
    Ok(())
}

/// The time on a processor that the threads of a process have had.
fn processor_time(process: &str) -> Result<Duration, Failure> {
    let mut time = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        time += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(time))
}

/// The kibibytes of memory that a process takes up.
fn memory(process: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let size = size.unwrap_or_default().trim().trim_end_matches(" kB");
    Ok(size.parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, process, readers, seconds, pause] = &arguments[..] else {
        return Err("usage: events ADDRESS PROCESS READERS SECONDS MILLISECONDS".into());
    };
    let (readers, pause): (usize, u64) = (readers.parse()?, pause.parse()?);
    let seconds = Duration::from_secs(seconds.parse()?);
    let start = Instant::now();
    let (opened, mut opening) = mpsc::channel(readers.max(1));
    // Later than the readers have come.
    let begin = start + REST + Duration::from_millis(2) * u32::try_from(readers)?;
    let (stop, end) = (begin + seconds, begin + seconds + REST);
    let mut following = Vec::new();
    for _ in 0..readers {
        let reader = follow(address.clone(), start, opened.clone(), end);
        following.push(tokio::spawn(reader));
    }
    for _ in 0..readers {
        opening.recv().await.ok_or("a reader was refused")?;
    }
    if Instant::now() > begin {
        return Err("the readers took too long to come".into());
    }
    sleep_until(begin.into()).await;

    let before = processor_time(process)?;
    let reports = Arc::new(AtomicU64::new(0));
    let mut reporting = Vec::new();
    for session in 0..if pause == 0 { AT_ONCE } else { 1 } {
        let pause = Duration::from_millis(pause);
        let session = report(
            address.clone(),
            session,
            start,
            pause,
            stop,
            reports.clone(),
        );
        reporting.push(tokio::spawn(session));
    }
    for session in reporting {
        session.await??;
    }
    let mut took = Vec::new();
    for reader in following {
        took.extend(reader.await??);
    }
    sleep_until(end.into()).await;
    let spent = processor_time(process)? - before;
    let reports = reports.load(Ordering::Relaxed);
    took.sort_unstable();
    let percentile = |share: usize| {
        let place = (took.len() * share / 100).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or_default() as f64 / 1000.0
    };
    println!(
        "{reports} {} {:.1} {:.1} {:.0} {:.1}",
        took.len(),
        percentile(50),
        percentile(99),
        spent.as_micros() as f64 / reports.max(1) as f64,
        memory(process)? as f64 / 1024.0
    );
    Ok(())
}
