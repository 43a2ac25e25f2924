// The story of the `openai` package for Node.

import assert from "node:assert/strict";
import OpenAI from "openai";

const place = JSON.parse(process.env.SHOAL_STORY);
const client = at(place.key);
const hello = [{ role: "user", content: "Hello" }];
const large = "x".repeat(2_000_000);

function at(key) {
  return new OpenAI({ baseURL: place.url + "/v1", apiKey: key, maxRetries: 0, timeout: 60_000 });
}

function chat(fields = {}, options = {}, by = client) {
  return by.chat.completions.create({ model: place.chat, messages: hello, max_tokens: 8, ...fields }, options);
}

function broken(fault, fields = {}) {
  return chat({ model: place.faulty, ...fields }, { headers: { "x-simulate": fault } });
}

async function all(stream) {
  const found = [];
  for await (const one of await stream) found.push(one);
  return found;
}

async function raises(kind, told, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor.name, kind.name, String(error));
    for (const [name, value] of Object.entries(told)) assert.equal(error[name], value, name);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

const steps = {
  async lists() {
    const names = (await all(client.models.list())).map((model) => model.id);
    for (const name of [place.chat, place.embed, place.faulty]) assert.ok(names.includes(name), String(names));
    assert.equal((await client.models.retrieve(place.chat)).owned_by, "shoal");
  },
  async chats() {
    const answer = await chat({ temperature: 0 });
    assert.equal(answer.model, place.chat);
    assert.equal(answer.usage.completion_tokens, 8);
  },
  async streams() {
    const chunks = await all(chat({ temperature: 0, stream: true, stream_options: { include_usage: true } }));
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, (await chat({ temperature: 0 })).choices[0].message.content);
    assert.equal(chunks.at(-1).usage.completion_tokens, 8);
  },
  async completes_text() {
    const asked = { model: place.chat, prompt: "Once", max_tokens: 8, temperature: 0 };
    const chunks = await all(client.completions.create({ ...asked, stream: true }));
    const whole = await client.completions.create(asked);
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
  },
  async embeds() {
    const found = await client.embeddings.create({ model: place.embed, input: ["A cat", "A kitten"] });
    assert.equal(found.data.length, 2);
    assert.ok(found.data[0].embedding.length > 100);
  },
  async responds() {
    const answer = await client.responses.create({ model: place.chat, input: "Hello", max_output_tokens: 8 });
    assert.equal(answer.usage.output_tokens, 8);
  },
  async responds_in_a_stream() {
    const asked = { model: place.chat, input: "Hello", max_output_tokens: 8, stream: true };
    const events = await all(client.responses.create(asked));
    assert.equal(events[0].type, "response.created");
    assert.ok(["response.completed", "response.incomplete"].includes(events.at(-1).type));
  },
  error_400: () => raises(OpenAI.BadRequestError, { status: 400, param: "temperature" }, () => chat({ temperature: 9 })),
  error_401: () =>
    raises(OpenAI.AuthenticationError, { code: "invalid_api_key" }, () => chat({}, {}, at(place.wrong_key))),
  error_403: () =>
    raises(OpenAI.PermissionDeniedError, { code: "permission_denied" }, () => chat({}, {}, at(place.limited_key))),
  error_404: () => raises(OpenAI.NotFoundError, { code: "model_not_found" }, () => chat({ model: "nobody" })),
  error_413: () => raises(OpenAI.APIError, { status: 413, code: "request_too_large" }, () => chat({ user: large })),
  error_422: () => raises(OpenAI.UnprocessableEntityError, { status: 422 }, () => broken("status code=422")),
  error_429: () => raises(OpenAI.RateLimitError, { code: "queue_full" }, () => chat({ model: place.full })),
  error_500: () => raises(OpenAI.InternalServerError, { status: 500 }, () => broken("status code=500")),
  error_503: () =>
    raises(OpenAI.InternalServerError, { status: 503, code: "model_not_ready" }, () => chat({ model: place.empty })),
  error_504: () =>
    raises(OpenAI.InternalServerError, { status: 504, code: "engine_timeout" }, () => broken("hang")),
  async error_in_the_stream() {
    for (const fault of ["cut after=3", "cut after=3 inside=true reset=true", "error-event after=3"])
      await raises(OpenAI.APIError, { code: "upstream_lost" }, () => all(broken(fault, { stream: true })));
  },
};

for (const [step, run] of Object.entries(steps)) {
  let fault = "";
  try {
    await run();
  } catch (error) {
    fault = error.stack;
  }
  console.log("STEP " + JSON.stringify({ step, fault }));
}
