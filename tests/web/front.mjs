// Stands before a server, as a proxy does, and stays where it is when the server behind it goes.

import { createServer, request } from "node:http";

/** Another version of the page, as its files are named after it. */
const OTHER = "0123456789abcdef";

/** An address whose server can be cut off, replaced, and upgraded. */
export class Front {
  #listener = createServer((asked, answer) => this.#forward(asked, answer));
  /** @type {string | null} */
  #target = null;
  /** The version of the page that the server really has, once it is to be called another one. */
  #version = "";

  /** Stands before a server. */
  static async before(server) {
    const front = new Front();
    front.to(server);
    await new Promise((resolve) => front.#listener.listen(0, "127.0.0.1", resolve));
    front.url = `http://127.0.0.1:${front.#listener.address().port}`;
    return front;
  }

  /** Puts a server behind it, or none. What is under way ends. */
  to(server) {
    this.#target = server?.url ?? null;
    this.#listener.closeAllConnections();
  }

  /** Has the page in another version from now on, and no longer in the one before. */
  async upgrade() {
    const page = await fetch(this.#target);
    this.#version = /\/assets\/([^/]+)\//.exec(await page.text())[1];
  }

  stop() {
    this.#listener.closeAllConnections();
    this.#listener.close();
  }

  #forward(asked, answer) {
    if (!this.#target) return answer.destroy();
    const isPage = !/^\/(api|assets|webhook)\//.test(asked.url);
    if (this.#version && asked.url.startsWith(`/assets/${this.#version}/`)) return answer.writeHead(404).end();
    const path = this.#version ? asked.url.replace(OTHER, this.#version) : asked.url;
    const headers = { ...asked.headers };
    // What is changed on its way must not be compressed, nor be known already.
    if (isPage) Object.assign(headers, { "accept-encoding": "identity", "if-none-match": "" });
    const outgoing = request(this.#target + path, { method: asked.method, headers }, (response) => {
      const { "content-length": length, etag, ...kept } = response.headers;
      answer.writeHead(response.statusCode, isPage ? kept : response.headers);
      if (!isPage || !this.#version) return response.pipe(answer);
      let text = "";
      response.setEncoding("utf8").on("data", (piece) => (text += piece));
      response.on("end", () => answer.end(text.replaceAll(this.#version, OTHER)));
    });
    outgoing.on("error", () => answer.destroy());
    answer.on("close", () => outgoing.destroy());
    asked.pipe(outgoing);
  }
}
