// Written by `kubeagents setup`, which replaces it and removes it with `--uninstall`.
// Tells a kubeagents server what OpenCode is doing.
import { spawn } from "node:child_process"

const PROGRAM = "@PROGRAM@"

const EVENTS = new Set([
  "session.created",
  "session.updated",
  "session.status",
  "session.idle",
  "session.error",
  "session.deleted",
  "session.compacted",
  "permission.asked",
  "permission.replied",
  "question.asked",
  "question.replied",
  "question.rejected",
])

// A session that another one started is a subagent.
const parents = new Map()

// It is updated at every step, and of that only the title is told.
const titles = new Map()

function tell(type, properties, cwd) {
  const payload = { type, properties, cwd }
  const parent = parents.get(properties.sessionID)
  if (parent) payload.parentID = parent
  try {
    const child = spawn(PROGRAM, ["hook", "opencode"], { stdio: ["pipe", "ignore", "ignore"] })
    child.on("error", () => {})
    child.stdin.on("error", () => {})
    child.stdin.end(JSON.stringify(payload))
    child.unref()
  } catch {
    // OpenCode goes on without reports.
  }
}

export const Kubeagents = async ({ directory }) => ({
  event: async ({ event }) => {
    if (!EVENTS.has(event.type)) return
    const info = event.properties.info
    if (event.type === "session.updated" && titles.get(info.id) === info.title) return
    if (info) titles.set(info.id, info.title)
    if (info?.parentID) parents.set(info.id, info.parentID)
    tell(event.type, { sessionID: info?.id, ...event.properties }, directory)
    if (event.type === "session.deleted") {
      parents.delete(info.id)
      titles.delete(info.id)
    }
  },
  "chat.message": async ({ sessionID }, { parts }) => {
    const texts = parts.filter((part) => part.type === "text" && !part.synthetic)
    tell("chat.message", { sessionID, prompt: texts.map((part) => part.text).join("\n") }, directory)
  },
  "tool.execute.before": async ({ tool, sessionID, callID }, { args }) => {
    tell("tool.execute.before", { sessionID, callID, tool, args }, directory)
  },
  "tool.execute.after": async ({ tool, sessionID, callID, args }) => {
    tell("tool.execute.after", { sessionID, callID, tool, args }, directory)
  },
})
