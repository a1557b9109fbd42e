//! Limits on what costs others something: log-ins, registrations, mails, reports.

use chrono::TimeDelta;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::client::Client;
use super::trace::Trace;
use super::{ApiError, App};
use crate::bucket::{Draw, Drawn, Flow, MemoryBuckets, Rate};
use crate::ports::Ports;
use crate::store::Buckets;
use crate::{AuthMode, Limit, Settings, Timestamp, Workspace, causes, sha256_hex};

const TOO_MANY_LOGINS: &str =
    "too many failed log-ins for this address: the limit is LOGIN_ATTEMPTS_PER_MINUTE";
const TOO_MANY_REGISTRATIONS: &str =
    "too many registrations by this client: the limit is REGISTRATIONS_PER_HOUR";
const TOO_MANY_TESTS: &str = "too many tests of channels: at most 10 a minute";
const TOO_MANY_MAILS: &str =
    "too many mails to this address: the limit is VERIFICATION_MAILS_PER_HOUR";

/// How often the channels of a workspace may be tested in a minute.
const TESTS_PER_MINUTE: u32 = 10;

/// How many clients of one IPv6 network of 48 bits may register at once: whoever has such a network has
/// 65,536 of those that count as one client.
const CLIENTS_OF_ONE_SITE: u32 = 10;

/// How many clients may try at the passwords of one address at once, as many times as each may: so
/// nobody locks another out cheaply.
const CLIENTS_AT_ONE_ADDRESS: u32 = 10;

/// Counts the reports of each workspace, those to this host alone: storage is not asked for each.
pub(super) struct ReportRate {
    per_minute: u32,
    flow: Flow,
    buckets: Mutex<MemoryBuckets<Workspace>>,
}

impl ReportRate {
    /// `None` where there is no limit: in open mode everybody would share it.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let times = settings.values.reports_per_minute;
        let per = TimeDelta::minutes(1);
        let flow = Flow::new(Rate { times, per })?;
        (settings.mode == AuthMode::Required).then(|| Self {
            per_minute: times,
            flow,
            buckets: Mutex::default(),
        })
    }

    fn draw(&self, workspace: &Workspace, now: Timestamp) -> Result<(), ApiError> {
        // No draw leaves a bucket half changed.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.draw(workspace, self.flow, now) {
            Drawn::Allowed => Ok(()),
            Drawn::Refused(wait) => Err(ApiError::too_many_requests(
                Limit::Reports,
                format!(
                    "too many reports in this workspace: the limit is {} a minute, \
                     REPORTS_PER_MINUTE",
                    self.per_minute
                ),
                wait,
            )),
        }
    }
}

impl<P: Ports> App<P> {
    /// Counts a report, whatever comes of it.
    pub(super) fn draw_report(
        &self,
        workspace: &Workspace,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        match &self.report_rate {
            Some(rate) => rate.draw(workspace, now),
            None => Ok(()),
        }
    }

    /// Counts a try at a password of an address, which the caller takes back if it is right.
    pub(super) async fn draw_attempt(
        &self,
        email_key: &str,
        client: Client,
    ) -> Result<Vec<Draw>, ApiError> {
        let times = self.settings.values.login_attempts_per_minute;
        let per = TimeDelta::minutes(1);
        let own = client.key().and_then(|key| {
            let names = ["log-in", email_key, &key.to_string()];
            Draw::new(&names, Rate { times, per })
        });
        let times = times.saturating_mul(CLIENTS_AT_ONE_ADDRESS);
        let of_all = Draw::new(&["log-in", email_key], Rate { times, per });
        self.draw_all([own, of_all], Limit::Logins, TOO_MANY_LOGINS)
            .await
    }

    /// Counts a registration.
    pub(super) async fn draw_registration(&self, client: Client) -> Result<Vec<Draw>, ApiError> {
        self.warn_of_hidden(client);
        let Some(key) = client.key().filter(|_| !client.is_local) else {
            return Ok(Vec::new());
        };
        let times = self.settings.values.registrations_per_hour;
        let per = TimeDelta::hours(1);
        let own = Draw::new(&["registration", &key.to_string()], Rate { times, per });
        let times = times.saturating_mul(CLIENTS_OF_ONE_SITE);
        let of_site = client.site().and_then(|site| {
            let names = ["registration of a site", &site.to_string()];
            Draw::new(&names, Rate { times, per })
        });
        self.draw_all([own, of_site], Limit::Registrations, TOO_MANY_REGISTRATIONS)
            .await
    }

    /// Draws from all of these, or from none.
    async fn draw_all(
        &self,
        draws: [Option<Draw>; 2],
        limit: Limit,
        refusal: &'static str,
    ) -> Result<Vec<Draw>, ApiError> {
        let mut drawn = Vec::new();
        for draw in draws.into_iter().flatten() {
            if let Err(refused) = self.draw(&draw, limit, refusal).await {
                self.put_back(drawn).await;
                return Err(refused);
            }
            drawn.push(draw);
        }
        Ok(drawn)
    }

    /// Counts a test of a workspace's channels.
    pub(super) async fn draw_test(&self, workspace: &Workspace) -> Result<(), ApiError> {
        let rate = Rate {
            times: TESTS_PER_MINUTE,
            per: TimeDelta::minutes(1),
        };
        match Draw::new(&["test of a channel", workspace.key()], rate) {
            Some(draw) => self.draw(&draw, Limit::ChannelTests, TOO_MANY_TESTS).await,
            None => Ok(()),
        }
    }

    /// Counts a mail to an address.
    pub(super) async fn draw_mail(&self, email_key: &str) -> Result<(), ApiError> {
        match self.mail_to(&["mail", email_key]) {
            Some(draw) => self.draw(&draw, Limit::Mails, TOO_MANY_MAILS).await,
            None => Ok(()),
        }
    }

    /// Counts a mail whose sender is told nothing; returns whether it may be sent. `wanted`: whether
    /// there is anything to send; if not, the same work is done.
    pub(super) async fn draw_silent_mail(
        &self,
        trace: &Trace,
        email_key: &str,
        wanted: bool,
    ) -> Result<bool, ApiError> {
        let decoy = sha256_hex(email_key);
        let draw = match wanted {
            true => self.mail_to(&["mail", email_key]),
            // Few of them, since anybody may think of any number of addresses.
            false => self.mail_to(&["no mail", &decoy[..2]]),
        };
        let Some(draw) = draw else {
            return Ok(wanted);
        };
        let drawn = self.ports.store().draw(&draw, self.now()).await?;
        let allowed = drawn == Drawn::Allowed;
        if wanted && !allowed {
            trace.note_limit(Limit::Mails);
        }
        Ok(wanted && allowed)
    }

    fn mail_to(&self, names: &[&str]) -> Option<Draw> {
        let times = self.settings.values.verification_mails_per_hour;
        let per = TimeDelta::hours(1);
        Draw::new(names, Rate { times, per })
    }

    /// Takes back draws. That they stay counted is no reason to refuse what they were for.
    pub(super) async fn put_back(&self, draws: Vec<Draw>) {
        for draw in draws {
            if let Err(error) = self.ports.store().put_back(&draw).await {
                tracing::warn!(causes = %causes(&error), "a limit counts what it should not");
            }
        }
    }

    async fn draw(&self, draw: &Draw, limit: Limit, refusal: &'static str) -> Result<(), ApiError> {
        match self.ports.store().draw(draw, self.now()).await? {
            Drawn::Allowed => Ok(()),
            Drawn::Refused(wait) => Err(ApiError::too_many_requests(limit, refusal, wait)),
        }
    }

    /// Warns, once, that clients behind a proxy count as one.
    fn warn_of_hidden(&self, client: Client) {
        if let Some(proxy) = client.address.filter(|_| client.is_hidden)
            && !self.warned_of_hidden.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %proxy,
                "all clients of a proxy count as one, since TRUSTED_PROXIES does not name it"
            );
        }
    }
}
