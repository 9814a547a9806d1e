// node fetch.mjs URL OPTIONS: one request, its answer as JSON. Run inside a namespace.
const [url, options] = process.argv.slice(2);
try {
  const answer = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(5000), ...JSON.parse(options) });
  const headers = Object.fromEntries(answer.headers);
  console.log(JSON.stringify({ status: answer.status, headers, body: await answer.text() }));
} catch (error) {
  console.error(error.cause?.message ?? error.message);
  process.exit(1);
}
