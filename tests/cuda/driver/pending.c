/* pending.c: families of instructions that are not written yet: a module that uses one does not load. */
#include "decode.h"
const Family family_half[] = { { NULL, NULL } }, family_atomic[] = { { NULL, NULL } }, family_async[] = { { NULL, NULL } },
	     family_tensor[] = { { NULL, NULL } }, family_mbarrier[] = { { NULL, NULL } }, family_bulk[] = { { NULL, NULL } },
	     family_wgmma[] = { { NULL, NULL } };
bool block_unblock(Block *b) { (void)b; return false; }
void block_close(Block *b) { (void)b; }
void race_start(Block *b) { (void)b; }
void race_stop(Block *b) { (void)b; }
bool race_access(Warp *w, const Inst *in, int lane, u32 address, u32 bytes, int kind)
{ (void)w; (void)in; (void)lane; (void)address; (void)bytes; (void)kind; return true; }
void race_join(Block *b, u32 warps) { (void)b; (void)warps; }
