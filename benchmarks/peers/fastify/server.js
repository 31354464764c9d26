// Fastify as in its documentation, without its logger, and ioredis with auto-pipelining: the GETs
// of one iteration of the event loop are sent together.
import Fastify from "fastify";
import Redis from "ioredis";

const app = Fastify({ logger: false });
const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });

app.get("/users/:id", async (request, reply) => {
  const value = await redis.get(`user:${request.params.id}`);
  if (value === null) return reply.code(404).send({ detail: "not found" });
  return reply.type("application/json").send(value);
});

await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
console.log("listening");
