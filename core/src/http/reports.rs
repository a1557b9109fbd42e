//! `POST /webhook/status`.

use schemars::JsonSchema;
use serde::Serialize;

use super::credentials::Caller;
use super::response::{Answer, ok};
use super::{Admitted, ApiError, App};
use crate::ports::{Notifier, Ports, Reports};
use crate::report::{RawReport, ReportRules};
use crate::{Incoming, Recorded, Unstored};

#[derive(Serialize, JsonSchema)]
pub(super) struct Reported {
    success: bool,
    message: &'static str,
}

impl<P: Ports> App<P> {
    pub(super) async fn report(&self, request: Admitted<'_>) -> Answer {
        let raw: RawReport = request.fields_or("Invalid JSON")?;
        let report = raw.validate(&ReportRules::WEBHOOK)?;
        let told = self.record(&request.caller, report).await?;
        ok(&Reported {
            success: true,
            message: told.message,
        })
    }

    /// Records what has come in and sets off the notifications that it queued; returns what to tell of it.
    pub(super) async fn record(
        &self,
        caller: &Caller,
        incoming: impl Into<Incoming>,
    ) -> Result<Told, ApiError> {
        let incoming = incoming.into().by_user(caller.user.as_deref());
        let reports = self.ports.reports();
        match reports.record(&caller.workspace, incoming).await? {
            Recorded::Stored {
                notifications,
                ttl_minutes,
            } => {
                if notifications {
                    self.ports.notifier().wake();
                }
                Ok(Told {
                    message: "Status reported successfully",
                    ttl_minutes: Some(ttl_minutes),
                })
            }
            Recorded::Unstored(Unstored::AlreadyReported | Unstored::SaysNothing) => Ok(Told {
                message: "Already reported",
                ttl_minutes: None,
            }),
            Recorded::Unstored(Unstored::Refused(field)) => Err(field.into()),
            Recorded::Unstored(Unstored::LimitReached(quota)) => {
                Err(ApiError::limit_reached(quota.limit(), quota.to_string()))
            }
        }
    }
}

/// What to tell of something that has come in.
pub(super) struct Told {
    pub(super) message: &'static str,
    /// For how many minutes it lasts; `None` where nothing was to be stored.
    pub(super) ttl_minutes: Option<u32>,
}
