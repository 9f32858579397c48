// Prints the greedy continuations that llama.cpp gives, one JSON list of ids a line:
//   node llama_cpp.mjs MODEL.gguf COUNT < prompts.jsonl     (each line of standard input a JSON list of ids)
import {createInterface} from "node:readline";
import {getLlama} from "node-llama-cpp";

const [file, count] = [process.argv[2], Number(process.argv[3])];
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: file, useMmap: true});
// The index branch of minimax-m3 runs only with flash attention; the cache in F32, as ours.
const context = await model.createContext({contextSize: 2048, flashAttention: true, threads: 1,
                                           experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"});
const sequence = context.getSequence();
for await (const line of createInterface({input: process.stdin})) {
  await sequence.clearHistory();
  const ids = [];
  for await (const id of sequence.evaluate(JSON.parse(line), {temperature: 0, yieldEogToken: true})) {
    ids.push(id);
    if (ids.length === count) break;
  }
  console.log(JSON.stringify(ids));
}
await context.dispose();
process.exit(0);
