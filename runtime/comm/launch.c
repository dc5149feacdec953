/* runtime/comm/launch.c: see launch.h. */
#include "runtime/comm/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Status number(const char *name, bool needed, u64 most, u32 *out)
{
	const char *text = getenv(name);
	char *end;
	*out = 0;
	if (!text)
		return needed ? FAIL(STATUS_INPUT, "%s is not set, and other variables of its launcher are", name) : OK;
	u64 n = strtoull(text, &end, 10);
	if (end == text || *end || n > most)
		return FAIL(STATUS_INPUT, "%s is %s, not a number up to %llu", name, text, (unsigned long long)most);
	*out = (u32)n;
	return OK;
}

bool launch_first_host(const char *list, char *to, size_t size)
{
	size_t n = 0;
	for (const char *p = list; *p && *p != ','; p++) {
		bool bracket = *p == '[';
		size_t take = bracket ? strcspn(p + 1, "-,]") : 1;
		if (n + take >= size)
			return false;
		memcpy(to + n, p + bracket, take);
		n += take;
		if (bracket)
			p += strcspn(p, "]");
		if (!*p)
			return false;
	}
	to[n] = 0;
	return n > 0;
}

static void meet_at(Launch *l, const char *host, u32 port)
{
	bool v6 = strchr(host, ':') != NULL;
	snprintf(l->meeting, sizeof l->meeting, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

static Status torchrun(Launch *l)
{
	u32 port;
	const char *host = getenv("MASTER_ADDR"), *store = getenv("TORCHELASTIC_USE_AGENT_STORE");
	TRY(number("RANK", true, 1 << 20, &l->rank));
	TRY(number("WORLD_SIZE", true, 1 << 20, &l->ranks));
	TRY(number("LOCAL_RANK", false, 1 << 20, &l->local_rank));
	TRY(number("MASTER_PORT", true, 65534, &port));
	if (!host || !*host)
		return FAIL(STATUS_INPUT, "MASTER_ADDR is not set, and WORLD_SIZE is");
	/* torchrun's own store has the port then */
	meet_at(l, host, port + (store && !strcmp(store, "True")));
	l->by = "torchrun";
	return OK;
}

static Status slurm(Launch *l)
{
	enum { FIRST_PORT = 10000, PORTS = 20000 }; /* below those that systems give away */
	const char *list = getenv("SLURM_JOB_NODELIST");
	char host[256];
	u32 job, port;
	TRY(number("SLURM_PROCID", true, 1 << 20, &l->rank));
	TRY(number("SLURM_NTASKS", true, 1 << 20, &l->ranks));
	TRY(number("SLURM_LOCALID", false, 1 << 20, &l->local_rank));
	TRY(number("SLURM_JOB_ID", false, UINT32_MAX, &job));
	if (!list || !launch_first_host(list, host, sizeof host))
		return FAIL(STATUS_INPUT, "SLURM_JOB_NODELIST is %s, and says no host to meet at", list ? list : "not set");
	TRY(number("MASTER_PORT", false, 65534, &port));
	meet_at(l, host, port ? port : FIRST_PORT + job % PORTS);
	l->by = "Slurm";
	return OK;
}

Status launch_read(Launch *out)
{
	*out = (Launch){ 0 };
	if (getenv("RANK") && getenv("WORLD_SIZE"))
		TRY(torchrun(out));
	else if (getenv("SLURM_PROCID") && getenv("SLURM_NTASKS"))
		TRY(slurm(out));
	if (out->by && out->rank >= out->ranks)
		return FAIL(STATUS_INPUT, "%s says rank %u of %u ranks", out->by, out->rank, out->ranks);
	return OK;
}
