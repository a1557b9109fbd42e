//! What befalls servers and database.

use std::thread::sleep;
use std::time::{Duration, Instant};

use kubeagents_test_postgres::Cluster;

use crate::Failure;
use crate::servers::Server;

/// The time between two faults in a long soak. A short one has eight.
const INTERVAL: Duration = Duration::from_secs(60);

/// How much of the soak passes before memory is measured for the first time.
const WARM: u32 = 10;

/// Servers and their database.
pub(crate) struct Site {
    /// On a database that several may share, the first is never killed.
    pub(crate) servers: Vec<Server>,
    pub(crate) cluster: Option<Cluster>,
}

/// What has befallen.
#[derive(Default)]
pub(crate) struct Befallen {
    pub(crate) kills: usize,
    pub(crate) restarts: usize,
    pub(crate) database_kills: usize,
    /// The kibibytes of memory of a server early in its life and at its end; where it was killed again
    /// and again, at the end of its first life and of its last.
    pub(crate) memory: (u64, u64),
    /// What must go on until everything has been counted.
    pub(crate) site: Option<Site>,
}

/// Kills and restarts until the soak is over.
pub(crate) fn befall(mut site: Site, length: Duration) -> Result<Befallen, Failure> {
    let mut befallen = Befallen::default();
    let start = Instant::now();
    let interval = INTERVAL.min(length / 9);
    let mut early = None;
    let warm = length / WARM;
    for turn in 1.. {
        let at = interval * turn;
        if at + interval / 2 > length {
            break;
        }
        sleep((start + at).saturating_duration_since(Instant::now()));
        for server in &mut site.servers {
            server.check()?;
        }
        if at >= warm {
            early = early.or(Some(site.servers[0].memory()?));
        }
        match (turn % 4, &mut site.cluster) {
            (1, Some(cluster)) => {
                cluster.kill();
                cluster.restart();
                befallen.database_kills += 1;
            }
            (3, _) => {
                victim(&mut site.servers)?.restart()?;
                befallen.restarts += 1;
            }
            _ => {
                victim(&mut site.servers)?.kill()?;
                befallen.kills += 1;
            }
        }
    }
    sleep((start + length).saturating_duration_since(Instant::now()));
    befallen.memory = (early.unwrap_or_default(), site.servers[0].memory()?);
    befallen.site = Some(site);
    Ok(befallen)
}

/// The server that is killed.
fn victim(servers: &mut [Server]) -> Result<&mut Server, Failure> {
    Ok(servers.last_mut().ok_or("no server")?)
}
