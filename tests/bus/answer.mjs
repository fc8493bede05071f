// A payment service in another language: reads one message, as NATS carries it, and answers it.
import { readFileSync } from "node:fs";

const { headers, body } = JSON.parse(readFileSync(0, "utf-8"));
const attribute = (name) =>
  headers[`ce-${name}`] === undefined ? undefined : decodeURIComponent(headers[`ce-${name}`]);
const encoded = (text) =>
  text.replace(/[^!#$&-~]+/gu, (part) => encodeURIComponent(part).replace(/'/g, "%27"));

const pay = JSON.parse(body);
if (attribute("specversion") !== "1.0" || attribute("type") !== "Pay") process.exit(1);

const answer = {
  specversion: "1.0",
  type: "Paid",
  source: "payments",
  id: `answer to ${attribute("id")}`,
  correlationid: attribute("correlationid"),
  correlationidtype: attribute("correlationidtype"),
  causationid: attribute("id"),
  causationidtype: attribute("idtype"),
  traceparent: attribute("traceparent"),
  kind: "event",
};
const written = { "ce-datacontenttype": "application/json" };
for (const [name, value] of Object.entries(answer)) {
  if (value !== undefined) written[`ce-${name}`] = encoded(value);
}
const receipt = `receipt for ${pay.items[0].product}`;
process.stdout.write(
  JSON.stringify({
    headers: written,
    body: JSON.stringify({ order: pay.order, amount: pay.amount, receipt }),
  }),
);
