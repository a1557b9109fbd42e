use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Conclusion, Trial};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::world::World;
use crate::{Host, Mode};

/// A precondition of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A server in open mode.
    Open,
    /// A server in required mode.
    Required,
    /// Accounts that can be registered and verified.
    Accounts,
    /// A server with [`SETTINGS`](crate::SETTINGS).
    Settings,
    /// A server with [`MEMBERS`](crate::MEMBERS).
    Members,
    /// A server on a loopback address, whether it knows its address or cannot.
    Loopback,
    /// A server that delivers notifications after its answer.
    DeliveryAfterAnswer,
    /// A server that knows its clients' addresses, this machine's among them.
    Clients,
    /// The instance's static key.
    StaticKey,
    /// The instance's secret for signing tokens.
    JwtSecret,
    /// Notifications that reach this machine's loopback addresses.
    Notifications,
    /// A receiver at the instance's own webhook URL.
    InstanceReceiver,
    /// A server that streams events.
    Streams,
    /// A server that does not.
    NoStreams,
}

impl Need {
    fn is_met_by(self, host: &Host) -> bool {
        match self {
            Self::Open => host.mode == Mode::Open,
            Self::Required => host.mode == Mode::Required,
            Self::Accounts => host.log.is_some(),
            Self::Settings => host.has_settings,
            Self::Members => host.has_members,
            Self::Loopback => host.is_on_loopback(),
            Self::DeliveryAfterAnswer => host.answers_before_delivering,
            Self::Clients => host.knows_clients,
            Self::StaticKey => host.static_key.is_some(),
            Self::JwtSecret => host.jwt_secret.is_some(),
            Self::Notifications => host.notifies_loopback,
            Self::Streams => host.streams,
            Self::NoStreams => !host.streams,
            Self::InstanceReceiver => host.notifies_loopback && host.instance_receiver.is_some(),
        }
    }

    /// Returns whether a host that lacks it is another kind of host, rather than one that the suite
    /// knows too little about.
    fn selects(self) -> bool {
        matches!(
            self,
            Self::Open
                | Self::Required
                | Self::Settings
                | Self::Loopback
                | Self::DeliveryAfterAnswer
                | Self::Clients
                | Self::Streams
                | Self::NoStreams
        )
    }
}

thread_local! {
    /// Place and message of the thread's last panic.
    static PANIC: Cell<String> = const { Cell::new(String::new()) };
}

type Run = fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()>>>;

/// One behaviour of the contract.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) run: Run,
}

/// Lists an area's scenarios: `name`, or `name [Need, …]`.
macro_rules! scenarios {
    ($($name:ident $([$($need:ident),+])?),+ $(,)?) => {
        pub(crate) fn scenarios() -> Vec<$crate::scenario::Scenario> {
            vec![$($crate::scenario::Scenario {
                name: stringify!($name),
                needs: &[$($($crate::scenario::Need::$need),+)?],
                run: |world| Box::pin($name(world)),
            }),+]
        }
    };
}
pub(crate) use scenarios;

/// An inline snapshot of an answer, as every host gives it.
macro_rules! assert_answer_snapshot {
    ($answer:expr, @$snapshot:literal) => {
        insta::allow_duplicates! {
            insta::assert_snapshot!($answer, @$snapshot)
        }
    };
}
pub(crate) use assert_answer_snapshot;

/// Serves every host and receiver of the process.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// Time that only a hung scenario takes. The slowest waits for a session of one minute to expire,
/// and hashing passwords is slow on a busy machine with few cores.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(300);

/// Scenarios wait for the server far more than they compute.
const SCENARIOS_AT_ONCE: usize = 16;

/// The contract as trials against `host`, named `<prefix>::<area>::<behaviour>`.
///
/// Scenarios of another mode or configuration are left out; those that need something that `host`
/// does not offer are marked ignored.
pub fn trials(host: &Host, prefix: &str) -> Vec<Trial> {
    let areas = [
        ("sessions", crate::sessions::scenarios()),
        ("accounts", crate::accounts::scenarios()),
        ("tokens", crate::tokens::scenarios()),
        ("cookies", crate::cookies::scenarios()),
        ("api_keys", crate::api_keys::scenarios()),
        ("audit", crate::audit::scenarios()),
        ("channels", crate::channels::scenarios()),
        ("credentials", crate::credentials::scenarios()),
        ("workspaces", crate::workspaces::scenarios()),
        ("teams", crate::teams::scenarios()),
        ("notifications", crate::notifications::scenarios()),
        ("reports", crate::reports::scenarios()),
        ("report_fields", crate::report_fields::scenarios()),
        ("hooks", crate::hooks::scenarios()),
        ("queries", crate::queries::scenarios()),
        ("events", crate::events::scenarios()),
        ("paging", crate::paging::scenarios()),
        ("paths", crate::paths::scenarios()),
        ("gates", crate::gates::scenarios()),
        ("cors", crate::cors::scenarios()),
        ("page", crate::page::scenarios()),
        ("operations", crate::operations::scenarios()),
        ("limits", crate::limits::scenarios()),
        ("settings", crate::settings::scenarios()),
    ];
    let world = Arc::new(World::new(host.clone()));
    let mut trials = Vec::new();
    for (area, scenarios) in areas {
        for scenario in scenarios {
            let unmet = |need: &&Need| !need.is_met_by(host);
            let mut missing = scenario.needs.iter().filter(unmet);
            let is_for_settings = scenario.needs.contains(&Need::Settings);
            if is_for_settings != host.has_settings || missing.clone().any(|need| need.selects()) {
                continue;
            }
            let world = world.clone();
            let run = scenario.run;
            let trial = Trial::test(format!("{prefix}::{area}::{}", scenario.name), move || {
                let scenario = async { timeout(SCENARIO_DEADLINE, run(world)).await };
                let scenario = || RUNTIME.block_on(scenario);
                match catch_unwind(AssertUnwindSafe(scenario)) {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(elapsed)) => Err(elapsed.into()),
                    Err(_) => Err(PANIC.take().into()),
                }
            });
            trials.push(trial.with_ignored_flag(missing.next().is_some()));
        }
    }
    trials
}

/// Runs trials as `cargo test` expects it, many at once unless `arguments` say otherwise.
pub fn run(mut arguments: Arguments, trials: Vec<Trial>) -> Conclusion {
    arguments.test_threads.get_or_insert(SCENARIOS_AT_ONCE);
    // A failure is reported with its scenario, not among the results of others.
    std::panic::set_hook(Box::new(|panic| PANIC.set(panic.to_string())));
    libtest_mimic::run(&arguments, trials)
}
