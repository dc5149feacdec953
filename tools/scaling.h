/* tools/scaling.h: how large a model and how much text a budget of arithmetic is best spent on, by fits of the loss
 *   L(N, D) = E + A / N^alpha + B / D^beta
 * over parameters N and tokens D: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", approach 3; and
 * Besiroglu et al. 2024, "Chinchilla Scaling: A replication attempt", who fitted the same data again. Nats per token of
 * Hoffmann's text and tokenizer: for comparing choices, not for foretelling a loss on other text. */
#ifndef PL_SCALING_H
#define PL_SCALING_H
#include "support/base.h"

typedef struct ScalingFit {
	const char *source;
	f64 E, A, B, alpha, beta;
} ScalingFit;
enum { SCALING_FITS = 2 };
extern const ScalingFit scaling_fit[SCALING_FITS];

f64 scaling_loss(const ScalingFit *f, f64 parameters, f64 tokens);
/* What minimizes the loss where a token costs `per_parameter` FLOPs for each parameter (6 is usual), and `flops` are to be had. */
void scaling_optimum(const ScalingFit *f, f64 flops, f64 per_parameter, f64 *parameters, f64 *tokens);
/* The tokens for which a model of this size is the best that the same arithmetic buys. */
f64 scaling_tokens(const ScalingFit *f, f64 parameters);

#endif
