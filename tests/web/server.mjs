// Servers that scenarios start, and what agents and people do there outside the browser.

import { spawn } from "node:child_process";

/** A password that every rule takes. */
export const PASSWORD = "correct horse battery";

/** Only a hung server takes so long. */
const DEADLINE = 60_000;

/** Waits until something is there. */
export async function until(what, find) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${DEADLINE} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A server that runs already. */
export class Server {
  constructor(url) {
    this.url = url;
  }

  /** Sends a request, and gives back what it answers. */
  async send(method, path, { body, token } = {}) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Reports a session, which works unless `fields` say otherwise. */
  report(fields, token) {
    const body = {
      agent_id: "alice-laptop",
      session_topic: "fix the login page",
      status: "running",
      timestamp: new Date().toISOString(),
      ...fields,
    };
    return this.send("POST", "/webhook/status", { body, token });
  }
}

/** A server that was started for one scenario. */
export class OwnServer extends Server {
  #process;
  #log = "";

  constructor(program, variables, command) {
    super("");
    this.#process = spawn(program, command, {
      env: { PORT: "0", ...variables },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process.stderr.setEncoding("utf8").on("data", (text) => (this.#log += text));
  }

  /** Starts one, and waits for its address. */
  static async start(program, variables, command = []) {
    const server = new OwnServer(program, variables, command);
    const listening = () => server.#log.split("\n").find((line) => line.includes("listening"));
    const line = await until("a server that listens", listening);
    server.url = /address=(http:\S+)/.exec(line)[1];
    return server;
  }

  async stop() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill();
    await ended;
  }

  /** The token of the newest link to a page that was mailed to somebody. */
  token(page, email) {
    return until(`a link to ${page} for ${email}`, () => {
      const lines = this.#log.split("\n").filter((line) => line.includes(email));
      const tokens = lines.map((line) => new RegExp(`/${page}\\?token=([\\w.~%=-]+)`).exec(line)?.[1]);
      return tokens.findLast(Boolean);
    });
  }

  /** An account that is verified, with its first tokens. */
  async account(email = "ann@example.com", name = "Ann") {
    await this.send("POST", "/api/auth/register", { body: { email, name, password: PASSWORD } });
    const token = await this.token("verify", email);
    const tokens = await this.send("GET", `/api/auth/verify?token=${token}`);
    return { email, token: tokens.access_token };
  }
}
