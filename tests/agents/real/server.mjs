// A small real model behind `/v1/chat/completions`: each event of a stream is one token as the model made it.
//
// Usage: node server.mjs MODEL.gguf, from a directory with `node-llama-cpp`. On standard output it tells, a JSON object a
// line: the address it listens on, and of each call when it has begun, every eighth token, and the end, with what was
// counted. Where tools are offered, a grammar makes the model call one of them: `write` first, then `report`.
// A prompt that asks for `a long story` gets one, as long as it may be.

import http from "node:http";
import { getLlama, LlamaGrammarEvaluationState } from "node-llama-cpp";

const CONTEXT = 4096; // tokens of a prompt and its answer
const OUTPUT_MAX = 2048;

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
// One thread: more of them wait for each other by spinning.
const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1 });
const model = await llama.loadModel({ modelPath: process.argv[2] });
const context = await model.createContext({ contextSize: CONTEXT, threads: 1, sequences: 1 });
const sequence = context.getSequence();

function prompt(messages) {
    const text = (content) =>
        typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");
    const turns = messages.map((one) => `<|im_start|>${one.role}\n${text(one.content)}<|im_end|>\n`);
    const tokens = model.tokenize(`${turns.join("")}<|im_start|>assistant\n`, true);
    return tokens.slice(-(CONTEXT - OUTPUT_MAX));
}

// The tool whose turn it is, and a grammar for its arguments.
async function forced(body) {
    const turn = body.messages.filter((one) => one.role === "assistant").length;
    const name = ["write", "report"][Math.min(turn, 1)];
    if (!(body.tools ?? []).some((tool) => tool.function?.name === name)) return undefined;
    const properties = {
        write: { path: { const: "made.txt" }, text: { type: "string", minLength: 1, maxLength: 60 } },
        report: { note: { type: "string", minLength: 1, maxLength: 60 }, claim: { const: "done" } },
    }[name];
    return { name, grammar: await llama.createGrammarForJsonSchema({ type: "object", properties }) };
}

// Words as they become whole: a character may be made of several tokens.
function* whole(state, token) {
    state.tokens.push(token);
    const text = model.detokenize(state.tokens);
    if (text.endsWith("\ufffd")) return;
    yield text;
    state.tokens = [];
}

function isWhole(text) {
    try {
        return Boolean(JSON.parse(text));
    } catch {
        return false;
    }
}

async function* pieces(body, call, counted, gone) {
    const grammar =
        call && new LlamaGrammarEvaluationState({ model, grammar: call.grammar });
    const tokens = prompt(body.messages);
    counted.prompt = tokens.length;
    const most = Math.min(body.max_completion_tokens ?? body.max_tokens ?? OUTPUT_MAX, OUTPUT_MAX);
    const endless = !call && JSON.stringify(body.messages).includes("a long story");
    await sequence.clearHistory();
    const state = { tokens: [] };
    let text = "";
    const options = { temperature: 0.8, seed: 7, grammarEvaluationState: grammar, yieldEogToken: endless };
    tell({ begun: counted.call, prompt: counted.prompt });
    for await (const token of sequence.evaluate(tokens, options)) {
        if (gone()) return "gone";
        counted.completion += 1;
        if (counted.completion % 8 === 0) tell({ under_way: counted.call, completion: counted.completion });
        for (const piece of whole(state, token)) {
            text += piece;
            yield piece;
        }
        // The grammar lets white space follow without end.
        if (call && isWhole(text)) return "tool_calls";
        if (counted.completion >= most) return "length";
    }
    return call ? "tool_calls" : "stop";
}

let calls = 0;
let last = Promise.resolve(); // one call at a time: there is one sequence

async function answer(body, response) {
    const counted = { call: (calls += 1), prompt: 0, completion: 0 };
    const before = last;
    let through;
    last = new Promise((resolve) => (through = resolve));
    await before;
    let gone = response.destroyed;
    response.on("close", () => (gone = !response.writableFinished));
    try {
        await stream(body, response, counted, () => gone);
    } finally {
        tell({ ended: counted.call, ...counted, whole: !gone });
        through();
    }
}

async function stream(body, response, counted, gone) {
    const head = { id: `chatcmpl-${counted.call}`, created: Math.floor(Date.now() / 1000), model: body.model };
    const call = await forced(body);
    const send = (choices, more) =>
        response.write(
            `data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices, ...more })}\n\n`,
        );
    const delta = (delta, finish_reason = null) => send([{ index: 0, delta, finish_reason }]);
    const part = (more) => ({ tool_calls: [{ index: 0, ...more }] });
    response.writeHead(200, { "content-type": "text/event-stream" });
    delta({ role: "assistant", content: call ? null : "" });
    if (call)
        delta(part({ id: `call_${counted.call}`, type: "function", function: { name: call.name, arguments: "" } }));
    const words = pieces(body, call, counted, gone);
    let next;
    while (!(next = await words.next()).done)
        delta(call ? part({ function: { arguments: next.value } }) : { content: next.value });
    if (next.value === "gone") return;
    delta({}, next.value);
    const usage = {
        prompt_tokens: counted.prompt,
        completion_tokens: counted.completion,
        total_tokens: counted.prompt + counted.completion,
    };
    if (body.stream_options?.include_usage) send([], { usage });
    response.end("data: [DONE]\n\n");
}

const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    if (request.url !== "/v1/chat/completions") return response.writeHead(404).end();
    try {
        const body = JSON.parse(Buffer.concat(parts).toString());
        if (!body.stream) throw new Error("only streams");
        await answer(body, response);
    } catch (error) {
        tell({ failed: String(error?.stack ?? error) });
        response.headersSent ? response.destroy() : response.writeHead(400).end(String(error));
    }
});
server.listen(0, "127.0.0.1", () => tell({ listens: `127.0.0.1:${server.address().port}` }));
