// Small exports of each product, made by hand in the form that it writes.

const node = (id: string, parent: string | null, children: string[], message: unknown) => ({
  id,
  parent,
  children,
  message,
});

function said(id: string, role: string, content: unknown, more: Record<string, unknown> = {}) {
  const plain = {
    create_time: 1_700_000_001.25,
    status: "finished_successfully",
    recipient: "all",
    metadata: {},
  };
  return { id, author: { role, name: null, metadata: {} }, content, ...plain, ...more };
}

const words = (...parts: unknown[]) => ({ content_type: "text", parts });

export const CHATGPT = [
  {
    title: "Paris",
    create_time: 1_700_000_000.5,
    update_time: 1_700_000_100,
    conversation_id: "6907ec86-cc30-8331-b8ca-a95ed580cd14",
    id: "6907ec86-cc30-8331-b8ca-a95ed580cd14",
    current_node: "n8",
    default_model_slug: "gpt-5",
    is_starred: true,
    mapping: {
      root: node("root", null, ["sys"], null),
      sys: node("sys", "root", ["ctx"], said("sys", "system", words(""), { weight: 0 })),
      ctx: node(
        "ctx",
        "sys",
        ["q"],
        said(
          "ctx",
          "user",
          { content_type: "user_editable_context", user_profile: "secret", user_instructions: "" },
          { metadata: { is_visually_hidden_from_conversation: true } },
        ),
      ),
      q: node(
        "q",
        "ctx",
        ["t"],
        said(
          "q",
          "user",
          {
            content_type: "multimodal_text",
            parts: [
              "Capital of France?",
              { content_type: "image_asset_pointer", asset_pointer: "sediment://file_1" },
            ],
          },
          {
            metadata: {
              attachments: [{ id: "file-1", name: "map.pdf", mime_type: "application/pdf", size: 9 }],
            },
          },
        ),
      ),
      t: node(
        "t",
        "q",
        ["r"],
        said("t", "assistant", {
          content_type: "thoughts",
          thoughts: [
            { summary: "Thinking of maps", content: "France is in Europe.", chunks: [], finished: true },
          ],
        }),
      ),
      r: node(
        "r",
        "t",
        ["a0"],
        said(
          "r",
          "assistant",
          { content_type: "reasoning_recap", content: "Thought for 7 seconds" },
          { metadata: { finished_duration_sec: 7 } },
        ),
      ),
      a0: node(
        "a0",
        "r",
        ["call"],
        said("a0", "assistant", words("Let me see."), {
          metadata: { model_slug: "gpt-5-thinking" },
        }),
      ),
      call: node(
        "call",
        "a0",
        ["tool"],
        said(
          "call",
          "assistant",
          { content_type: "code", language: "unknown", text: 'search("Paris")' },
          { recipient: "web" },
        ),
      ),
      tool: node(
        "tool",
        "call",
        ["a1"],
        said("tool", "tool", {
          content_type: "tether_browsing_display",
          result: "found",
        }),
      ),
      a1: node(
        "a1",
        "tool",
        ["n7", "n9"],
        said("a1", "assistant", words("Paris.\ue200cite\ue202turn0\ue201"), {
          metadata: { model_slug: "gpt-5-thinking" },
        }),
      ),
      n7: node("n7", "a1", ["n8"], said("n7", "user", words("Sure?"))),
      n8: node("n8", "n7", [], said("n8", "assistant", words("Yes."), { metadata: { model_slug: "gpt-5" } })),
      n9: node("n9", "a1", [], said("n9", "user", words("Really?"), { create_time: null })),
    },
  },
  { nothing: "that anybody knows" },
  { title: "Empty", id: "empty", conversation_id: "empty", mapping: {}, current_node: null },
];

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export const OPEN_WEBUI = [
  {
    id: "chat-1",
    user_id: "u",
    title: "Rivers",
    pinned: true,
    archived: false,
    meta: { tags: ["rivers"] },
    folder_id: null,
    created_at: 1_700_000_000,
    updated_at: 1_700_000_100,
    chat: {
      title: "Rivers",
      models: ["llama"],
      params: { temperature: 0.2, system: "Be short.", stop: null },
      timestamp: 1_700_000_000_000,
      history: {
        currentId: "m2",
        messages: {
          m2: {
            id: "m2",
            parentId: "m1",
            childrenIds: [],
            role: "assistant",
            content:
              '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds</summary>\n&gt; Nile &gt; Amazon?\n&gt; Yes.\n</details>\nThe Nile.',
            model: "llama",
            modelName: "Llama",
            timestamp: 1_700_000_010,
            done: true,
            usage: { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 },
          },
          m1: {
            id: "m1",
            parentId: null,
            childrenIds: ["m2", "m3"],
            role: "user",
            content: "Longest river?",
            timestamp: 1_700_000_005,
            models: ["llama"],
            files: [
              { type: "image", url: `data:image/png;base64,${PIXEL}` },
              { type: "file", id: "f", name: "rivers.pdf", url: "f", status: "uploaded" },
            ],
          },
          m3: {
            id: "m3",
            parentId: "m1",
            childrenIds: [],
            role: "assistant",
            content: "The Amazon.",
            model: "qwen",
            timestamp: 1_700_000_020,
            done: false,
          },
        },
      },
      messages: [],
    },
  },
  {
    id: "chat-2",
    title: "Old",
    chat: {
      title: "Old",
      models: ["llama"],
      messages: [
        { role: "user", content: "Hello" },
        { role: "assistant", content: "Hi" },
      ],
    },
  },
];

export const CHAT_AI = {
  title: "Lakes",
  temperature: 0.5,
  top_p: 0.9,
  model: "llama-3.3-70b-instruct",
  "model-name": "Llama 3.3 70B Instruct",
  messages: [
    { role: "system", content: "You know lakes." },
    { role: "info", content: "Not for models." },
    { role: "user", content: "Deepest lake?" },
    {
      role: "assistant",
      content: "<think>\nLake Baikal, in Siberia.\n</think>\n\nBaikal.",
      feedback: { rating: 1 },
    },
    {
      role: "user",
      content: [
        { type: "text", text: "And this?" },
        { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
        { type: "file", file: { file_data: "data:text/plain;base64,aGVsbG8=", filename: "notes.txt" } },
      ],
    },
    { role: "assistant", content: "" },
  ],
};

export const OWN = {
  format: "sluice-conversations",
  version: 1,
  exported: "2026-11-30T16:00:00.000Z",
  conversations: [
    {
      id: "7b0c2e5e-1d47-4f0a-9c39-1f3f4d7a6b20",
      title: "Mountains",
      titled: "own",
      created: 1_700_000_000_000,
      updated: 1_700_000_100_000,
      model: "smollm2-135m",
      leaf: "b3b5ef2c-86a8-4ff4-a6a9-1f6ee0f7b0a2",
      pinned: true,
      folder: "Work",
      settings: { temperature: 0.7, persona: "p" },
      messages: [
        {
          id: "a2b5ef2c-86a8-4ff4-a6a9-1f6ee0f7b0a1",
          parent: "",
          role: "user",
          content: "Highest mountain?",
          created: 1_700_000_000_000,
          state: "done",
          model: "",
          attachments: [{ id: "f1", name: "peaks.pdf", kind: "text", size: 1_000, pages: [0] }],
        },
        {
          id: "b3b5ef2c-86a8-4ff4-a6a9-1f6ee0f7b0a2",
          parent: "a2b5ef2c-86a8-4ff4-a6a9-1f6ee0f7b0a1",
          role: "assistant",
          content: "Everest.",
          created: 1_700_000_010_000,
          state: "stopped",
          model: "smollm2-135m",
          reasoning: { text: "Everest or K2?", milliseconds: 1_200 },
          usage: { prompt_tokens: 10, completion_tokens: 3, milliseconds: 500 },
        },
      ],
      attachments: [
        {
          id: "f1",
          name: "peaks.pdf",
          kind: "text",
          size: 1_000,
          type: "application/pdf",
          pages: [{ name: "1", text: "first page" }],
        },
        { id: "f2", name: "peak.png", kind: "image", size: 70, type: "image/png", base64: PIXEL },
      ],
    },
  ],
  personas: [{ id: "p", name: "Guide", description: "", settings: { system: "Guide me." }, created: 1 }],
  prompts: [{ id: "q", name: "sum", text: "Sum this up.", created: 1 }],
  settings: { remind: 30 },
};
