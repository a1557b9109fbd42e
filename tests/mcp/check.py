"""Puts the official Python client to a kubeagents MCP server, in both ways of connecting.

    check.py REST_URL                reports by REST_URL/mcp
    check.py REST_URL COMMAND...     reports by the server that COMMAND starts

MCP_TOKEN holds the bearer token, if there is one. What is reported is read back by REST_URL.
"""

import asyncio
import json
import os
import sys
import urllib.parse
import urllib.request
import uuid

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

TOOLS = ["start_session", "report_status", "end_session", "list_agents", "list_sessions", "get_session"]


def headers():
    token = os.environ.get("MCP_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def rest(base_url, *segments):
    path = "/".join(urllib.parse.quote(segment, safe="") for segment in segments)
    request = urllib.request.Request(f"{base_url}/{path}", headers=headers())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def equal(got, expected):
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


def text(result):
    return "".join(block.text for block in result.content)


async def check(server, mode, version, base_url):
    agent = f"python-{mode}-{uuid.uuid4()}"
    topic = "审查 a/b & c"
    session = {"agent_id": agent, "session_topic": topic}
    async with Client(server, mode=mode, read_timeout_seconds=30) as client:
        equal(client.protocol_version, version)
        equal(client.server_info.name, "kubeagents")
        assert "start_session" in client.instructions
        equal([tool.name for tool in (await client.list_tools()).tools], TOOLS)

        for tool, arguments in [
            ("start_session", {"agent_name": "Python", "ttl_minutes": 5}),
            ("report_status", {"status": "pending", "message": "waiting"}),
            ("end_session", {"status": "success", "content": "all done"}),
        ]:
            result = await client.call_tool(tool, session | arguments)
            equal((result.is_error, text(result)), (False, "Status reported successfully"))

        broken = await client.call_tool("start_session", {"session_topic": topic})
        equal((broken.is_error, text(broken)), (True, "agent_id is required"))
        try:
            await client.call_tool("no_such_tool", {})
        except MCPError as error:
            equal(error.error.code, -32602)
        else:
            raise AssertionError("a tool that does not exist was called")

        shown = await client.call_tool("get_session", session)
        listed = await client.call_tool("list_agents", {"search": agent.upper()})
        sessions = await client.call_tool("list_sessions", {"agent_id": agent})
        equal(sessions.structured_content, rest(base_url, "api", "agents", agent, "sessions"))

        # Over HTTP, requests that are under way at once have no order.
        if isinstance(server, StdioServerParameters):
            busy = f"busy-{agent}"
            at_once = {"agent_id": busy, "session_topic": "at once"}
            await asyncio.gather(
                client.call_tool("start_session", at_once | {"message": "1"}),
                client.call_tool("report_status", at_once | {"message": "2", "status": "pending"}),
                client.call_tool("end_session", at_once | {"message": "3", "status": "success"}),
            )
            stored = rest(base_url, "api", "agents", busy, "sessions", "at once")
            equal([entry["message"] for entry in stored["status_history"]], ["3", "2", "1"])

    detail = rest(base_url, "api", "agents", agent, "sessions", topic)
    statuses = [entry["status"] for entry in detail["status_history"]]
    equal(statuses, ["success", "pending", "running"])
    equal(detail["status_history"][0]["content"], "all done")
    equal(detail["session"]["ttl_minutes"], 5)
    equal(shown.structured_content, detail)
    equal(json.loads(text(shown)), detail)
    equal(listed.structured_content, {"agents": [rest(base_url, "api", "agents", agent)]})
    print(f"python mcp {version} ({mode})")


async def main():
    base_url, *command = sys.argv[1:]
    for mode, version in [("auto", "2026-07-28"), ("legacy", "2025-11-25")]:
        if command:
            server = StdioServerParameters(
                command=command[0], args=command[1:], env=dict(os.environ)
            )
            await check(server, mode, version, base_url)
        else:
            async with httpx2.AsyncClient(headers=headers(), timeout=30) as http:
                server = streamable_http_client(f"{base_url}/mcp", http_client=http)
                await check(server, mode, version, base_url)


asyncio.run(main())
