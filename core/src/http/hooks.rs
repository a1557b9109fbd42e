//! `POST /hooks/{tool}`.

use http::{HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::response::{Answer, ok};
use super::{Admitted, ApiError, App};
use crate::hook::{self, Detail, Intent, Sender, Tool};
use crate::ports::Ports;
use crate::report::MAX_SEQUENCE;

/// Says for how many minutes what was stored lasts: until then whoever hands over hooks is to renew it.
const TTL: HeaderName = HeaderName::from_static("session-ttl-minutes");

/// The JSON that a coding agent hands to its hooks, as it is.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct HookPayload(
    #[expect(dead_code, reason = "it stands for its schema")] Map<String, Value>,
);

/// An empty object: nothing in it could steer the agent.
#[derive(Serialize, JsonSchema)]
pub(super) struct HookAnswer {}

impl<P: Ports> App<P> {
    pub(super) async fn report_hook(&self, request: Admitted<'_>) -> Answer {
        let tool = Tool::parse(&request.route.parameter("tool")?);
        let tool = tool.ok_or_else(|| ApiError::not_found("Tool not found"))?;
        let (sender, detail) = sender(&request.parts.uri);
        let detail = detail.min(self.settings.values.hook_detail);
        let intent = Intent::read(tool, &request.body, sender, detail);
        let intent = intent.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let told = match intent {
            Some(intent) => Some(self.record(&request.caller, intent).await?),
            None => None,
        };
        let mut answer = ok(&HookAnswer {})?;
        if let Some(minutes) = told.and_then(|told| told.ttl_minutes) {
            answer.headers_mut().insert(TTL, HeaderValue::from(minutes));
        }
        Ok(answer)
    }
}

/// What the query says of the sender, and the detail that it allows. What is malformed counts as
/// absent: a hook must never fail.
fn sender(uri: &Uri) -> (Sender, Detail) {
    let mut sender = Sender::default();
    let mut detail = None;
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "agent_id" if sender.agent_id.is_none() => sender.agent_id = Some(value.into_owned()),
            "sequence" if sender.sequence.is_none() => {
                let sequence = value.parse().ok();
                sender.sequence = sequence
                    .filter(|sequence| (1..=MAX_SEQUENCE.unsigned_abs()).contains(sequence));
            }
            "detail" if detail.is_none() => detail = Detail::parse(&value),
            name if hook::CONTEXT.contains(&name) => {
                let given = sender.context.entry(name.to_owned());
                given.or_insert_with(|| value.into_owned());
            }
            _ => {}
        }
    }
    (sender, detail.unwrap_or_default())
}
