//! `/api/audit`: who did what to an account, or to the channels of the shared workspace.

use chrono::TimeDelta;
use http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;

use super::agents::{cursor, limit, list};
use super::client::Client;
use super::response::Answer;
use super::{Admitted, App};
use crate::audit::{self, Act, Actor, AuditEntry, AuditEvent, Origin};
use crate::ports::{Ports, random_uuid};
use crate::store::Audit;
use crate::{AccountId, Workspace};

#[derive(Serialize, JsonSchema)]
pub(super) struct AuditList {
    entries: Vec<AuditEntry>,
}

impl<P: Ports> App<P> {
    pub(super) async fn list_audit(&self, request: Admitted<'_>) -> Answer {
        let uri = &request.parts.uri;
        let (limit, after) = (limit(uri)?, cursor(uri)?);
        let since = self.now() - self.audit_retention();
        let store = self.ports.store();
        let page = store.audit(&request.caller.workspace, since, after.as_ref(), limit);
        let page = page.await?;
        self.paged(&request, page, |page, size| {
            let entries = page.items;
            list(AuditList { entries }, page.next, size)
        })
        .await
    }

    /// Writes an act into the audit.
    pub(super) async fn note(&self, act: Act) {
        let retention = self.audit_retention();
        let recording = audit::record(self.ports.store(), act, retention, self.now());
        // Every request would be as large as the statement that writes it.
        Box::pin(recording).await;
    }

    /// What a request did to an account.
    pub(super) fn act(
        &self,
        id: &AccountId,
        request: &Admitted<'_>,
        event: AuditEvent,
        actor: Actor,
    ) -> Act {
        let own = Workspace::Account(id.clone());
        Act::new(own, event, actor).from(self.origin(request.parts))
    }

    /// Where a request came from.
    pub(super) fn origin(&self, parts: &Parts) -> Origin {
        let trusted = self.settings.values.trusted_proxies.as_ref();
        let client = Client::of(&parts.extensions, &parts.headers, trusted);
        let request = random_uuid(self.ports.entropy());
        Origin::new(client.address, &parts.headers, request)
    }

    fn audit_retention(&self) -> TimeDelta {
        self.settings.values.audit_retention()
    }
}
