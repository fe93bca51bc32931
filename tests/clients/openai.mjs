// What a program on Node.js does with the public client: `node openai.mjs PACKAGE MODEL CAPABILITY…`, told by one line of JSON.
const [name, model, ...capabilities] = process.argv.slice(2);
const { default: OpenAI } = await import(name);
const options = {
  baseURL: `${process.env.SLUICE_URL}/v1`,
  apiKey: process.env.SLUICE_API_KEY,
};
const client = new OpenAI(options);
const question = { model, messages: [{ role: "user", content: "What is the capital of France?" }] };
const found = {};

found.models = (await client.models.list()).data.map((one) => one.id);
found.retrieved = (await client.models.retrieve(model)).id;

const whole = await client.chat.completions.create({ ...question, max_tokens: 40, temperature: 0 });
found.chat = whole.choices[0].message.content;
found.chatTokens = whole.usage.completion_tokens;

found.stream = "";
const stream = await client.chat.completions.create({
  ...question,
  max_tokens: 40,
  temperature: 0,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  found.stream += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) found.streamTokens = chunk.usage.completion_tokens;
}

// A stream that nobody reads on: the client closes its connection, and goes on with the next.
const left = await client.chat.completions.create({ ...question, max_tokens: 200, stream: true });
for await (const chunk of left) {
  found.left = chunk.object;
  break;
}

if (capabilities.includes("completions")) {
  const answer = await client.completions.create({
    model,
    prompt: "The capital of France is",
    max_tokens: 8,
    temperature: 0,
  });
  found.completion = answer.choices[0].text;
}
if (capabilities.includes("responses")) {
  const asked = { model, input: "What is the capital of France?", max_output_tokens: 40, temperature: 0 };
  found.response = (await client.responses.create(asked)).output_text;
  found.responseStream = "";
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    if (event.type === "response.output_text.delta") found.responseStream += event.delta;
    if (event.type === "response.completed") found.responseTokens = event.response.usage.output_tokens;
  }
}
if (capabilities.includes("embeddings")) {
  const answer = await client.embeddings.create({ model, input: ["Paris", "bread"] });
  found.embeddings = answer.data.map((one) => one.embedding.length);
}

if (capabilities.includes("input_tokens") && client.responses.inputTokens) {
  const asked = { model, input: "What is the capital of France?" };
  found.inputTokens = (await client.responses.inputTokens.count(asked)).input_tokens;
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return [error.constructor.name, error.status, error.code, error.requestID ?? error.request_id];
  }
  return null;
}
found.missing = await refusal(() =>
  client.chat.completions.create({ ...question, model: "no-such-model" }),
);
found.unknown = await refusal(() =>
  new OpenAI({ ...options, apiKey: "sk-nonsense" }).models.list(),
);
found.wrong = await refusal(() => client.chat.completions.create({ ...question, messages: "hi" }));
// Every model is unknown whose name has a slash; the client escapes it, or does not.
found.slash = await refusal(() => client.models.retrieve("org/model"));
found.noVersion = await refusal(() =>
  new OpenAI({ ...options, baseURL: process.env.SLUICE_URL }).chat.completions.create(question),
);
// A limit that is used up for the day: the client gives up at once.
if (process.env.SLUICE_SPENT_KEY) {
  const spent = new OpenAI({ ...options, apiKey: process.env.SLUICE_SPENT_KEY });
  const began = Date.now();
  found.spent = await refusal(() => spent.chat.completions.create({ ...question, max_tokens: 40 }));
  found.spentSeconds = (Date.now() - began) / 1000;
}

console.log(JSON.stringify(found));
