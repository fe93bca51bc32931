// What a program on Node.js does with Anthropic's public client: `node anthropic.mjs MODEL`, told by one line of JSON.
import Anthropic from "@anthropic-ai/sdk";

const [model, ...capabilities] = process.argv.slice(2);
const options = { baseURL: process.env.SLUICE_URL, apiKey: process.env.SLUICE_API_KEY };
const client = new Anthropic(options);
const messages = [{ role: "user", content: "What is the capital of France?" }];
const question = { model, max_tokens: 40, messages };
const found = {};

found.models = (await client.models.list()).data.map((one) => one.id);
const whole = await client.messages.create(question);
found.message = whole.content.map((block) => block.text ?? "").join("");
found.tokens = whole.usage.output_tokens;

const stream = client.messages.stream(question);
found.stream = await stream.finalText();
found.streamTokens = (await stream.finalMessage()).usage.output_tokens;

if (capabilities.includes("count_tokens")) {
  found.counted = (await client.messages.countTokens({ model, messages })).input_tokens;
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    return [error.constructor.name, error.status, error.error?.error?.code, error.requestID];
  }
  return null;
}
found.missing = await refusal(() => client.messages.create({ ...question, model: "no-such-model" }));
found.unknown = await refusal(() =>
  new Anthropic({ ...options, apiKey: "sk-nonsense" }).messages.create(question),
);
found.twice = await refusal(() =>
  new Anthropic({ ...options, baseURL: `${process.env.SLUICE_URL}/v1` }).messages.create(question),
);
// A limit that is used up for the day: the client gives up at once.
if (process.env.SLUICE_SPENT_KEY) {
  const spent = new Anthropic({ ...options, apiKey: process.env.SLUICE_SPENT_KEY });
  const began = Date.now();
  found.spent = await refusal(() => spent.messages.create(question));
  found.spentSeconds = (Date.now() - began) / 1000;
}

console.log(JSON.stringify(found));
