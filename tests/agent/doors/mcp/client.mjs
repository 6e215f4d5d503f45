// A client of the TypeScript SDK: lists the server's tools, compiles their schemas under strict
// Ajv, and makes two calls. Prints one JSON object; all that the SDK warns of goes to stderr.
// Use: node client.mjs COMMAND ARGUMENT...

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { Ajv } from "ajv";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "typescript", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env, cwd: "/" }));
const { tools } = await client.listTools();
const ajv = new Ajv({ strict: true, logger: { log: refuse, warn: refuse, error: refuse } });
for (const { inputSchema, outputSchema } of tools) {
  ajv.compile(inputSchema);
  if (outputSchema) ajv.compile(outputSchema);
}
const runs = await client.callTool({ name: "list_runs", arguments: {} });
const refused = await client.callTool({ name: "get_optimization", arguments: { job_id: "none" } });
console.log(
  JSON.stringify({
    tools: tools.map(({ name }) => name),
    outputs: tools.filter(({ outputSchema }) => outputSchema).length,
    runs: runs.structuredContent,
    refused: refused.content[0].text,
  }),
);
await client.close();

function refuse(...words) {
  throw new Error(words.join(" "));
}
