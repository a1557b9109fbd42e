//! What the system says of this process.

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};

use super::table::Families;

/// Brings the metrics of the process up to date.
pub(super) fn measure(families: &Families) {
    if let Err(error) = try_measure(families) {
        tracing::debug!(%error, "the process cannot be measured");
    }
}

fn try_measure(families: &Families) -> ProcResult<()> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = ticks_per_second() as f64;
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    families.cpu.inc_by((cpu - families.cpu.get()).max(0.0));
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    families.resident.set(bytes(stat.rss * page_size()));
    families.virtual_memory.set(bytes(stat.vsize));
    let boot = boot_time_secs()? as f64;
    families.start.set(boot + stat.starttime as f64 / ticks);
    if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        families.max_files.set(bytes(most));
    }
    families.open_files.set(bytes(process.fd_count()? as u64));
    Ok(())
}
