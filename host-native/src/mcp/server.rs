//! The tools over standard input and output.

use std::borrow::Cow;

use kubeagents_core::mcp::{Call, INSTRUCTIONS, ProtocolVersion, SERVER_NAME, Tool};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::api::Api;
use super::outbox::{Outbox, Outcome};

/// Answers the tools' calls by the server that it is in front of.
#[derive(Clone)]
pub(super) struct Tools {
    tools: Vec<rmcp::model::Tool>,
    api: Api,
    outbox: Outbox<Api>,
}

impl Tools {
    /// The tools of the core, on this server.
    ///
    /// # Errors
    /// When the core's definitions are not what the protocol's library takes.
    pub(super) fn new(api: Api, outbox: Outbox<Api>) -> Result<Self, serde_json::Error> {
        let tools = serde_json::to_value(Tool::ALL.map(Tool::definition))?;
        Ok(Self {
            tools: serde_json::from_value(tools)?,
            api,
            outbox,
        })
    }

    async fn report(&self, report: kubeagents_core::Report) -> CallToolResult {
        match self.outbox.report(report).await {
            Outcome::Delivered => said("Status reported successfully"),
            Outcome::Queued(reason) => said(&format!(
                "Queued, not yet delivered: {reason}. The report is sent as soon as the server \
                 takes it; go on with your task."
            )),
            Outcome::Refused(message) => failed(&message),
            Outcome::Full => failed(
                "Not reported: too many reports wait for the server already. Go on with your task.",
            ),
        }
    }
}

fn said(text: &str) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn failed(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new(SERVER_NAME, env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server.with_title("KubeAgents"))
            .with_instructions(INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [rmcp::model::ProtocolVersion]> {
        let known = rmcp::model::ProtocolVersion::KNOWN_VERSIONS.iter();
        known
            .filter(|version| ProtocolVersion::parse(version.as_str()).is_some())
            .cloned()
            .collect()
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = &request.name;
        let tool = Tool::parse(name)
            .ok_or_else(|| ErrorData::invalid_params(format!("Unknown tool: {name}"), None))?;
        let answer = match tool.read(&request.arguments.unwrap_or_default()) {
            Err(invalid) => Err(invalid.to_string()),
            Ok(Call::Report(report)) => return Ok(self.report(report).await.into()),
            Ok(Call::ListAgents(call)) => self.api.list_agents(&call).await,
            Ok(Call::GetSession(call)) => self.api.get_session(&call).await,
        };
        let result = answer.map_or_else(|message| failed(&message), CallToolResult::structured);
        Ok(result.into())
    }
}
