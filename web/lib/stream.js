// Server-Sent Events over `fetch`: `EventSource` can send no credentials.

/** @typedef {{ id: string, event: string, data: string }} StreamEvent */

/**
 * Reads events until the stream ends. Comments come as events with the name `comment`: they tell that
 * the stream lives. A place in the stream without an event comes as one with the name `id`.
 *
 * @param {Response} response
 * @returns {AsyncGenerator<StreamEvent, void>}
 */
export async function* events(response) {
  let event = { id: "", event: "message", data: "" };
  for await (const line of lines(response)) {
    if (line === "") {
      if (event.data || event.event !== "message") yield event;
      else if (event.id) yield { ...event, event: "id" };
      event = { id: event.id, event: "message", data: "" };
    } else if (line.startsWith(":")) {
      yield { id: "", event: "comment", data: "" };
    } else {
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") event.data += event.data ? `\n${value}` : value;
      else if (field === "event") event.event = value;
      else if (field === "id") event.id = value;
    }
  }
}

/**
 * @param {Response} response
 * @returns {AsyncGenerator<string, void>}
 */
async function* lines(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r\n|\n|\r/);
    rest = parts.pop() ?? "";
    yield* parts;
  }
}
