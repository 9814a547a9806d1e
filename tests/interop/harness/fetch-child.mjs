// Run inside a namespace by Fetcher: requests come from its parent, answers go back.
process.on('message', async ({ id, url, options }) => {
  try {
    const answer = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(10_000), ...options });
    process.send({ id, status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() });
  } catch (error) {
    process.send({ id, error: error.cause?.message ?? error.message });
  }
});
process.on('disconnect', () => process.exit());
