/* runtime/comm/launch.h: what a launcher tells a process of its place among others, where it is not MPI: Slurm's srun and
 * PyTorch's torchrun do so by environment variables. They say who is who, and where rank 0 is; what the ranks meet by then
 * is NCCL (runtime/cuda/transport.c). */
#ifndef PL_COMM_LAUNCH_H
#define PL_COMM_LAUNCH_H
#include "support/status.h"

typedef struct Launch {
	const char *by; /* "Slurm", "torchrun"; NULL: nobody launched this process as a rank */
	u32 rank, ranks, local_rank;
	char meeting[300]; /* host:port, where rank 0 waits for the others */
} Launch;

/* RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; else SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID and the first host of
 * SLURM_JOB_NODELIST. STATUS_INPUT where these are there and wrong. */
PL_MUST_USE Status launch_read(Launch *out);

/* The first host of a Slurm list: "node01" of "node[01-04,07],gpu3". False where it does not fit. */
bool launch_first_host(const char *list, char *to, size_t size);

#endif
