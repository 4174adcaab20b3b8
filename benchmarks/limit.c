/* What one core can do: episodes of CartPole by a policy of 4-16-16-2 tanh units, and their policy gradient.
 *
 *     cc -O3 -march=native -ffp-contract=off -fno-trapping-math -fno-math-errno limit.c -o limit -lm
 *     ./limit THETA ROWS
 *
 * THETA is a file of 386 float32: W1[4][16] b1[16] W2[16][16] b2[16] W3[16][2] b3[2]. Each number of the simulation is
 * a vector of 16 episodes, one in each lane, all by one policy; nothing is general. ROWS is rounded up to whole vectors,
 * so that no lane is idle from the start. The sampled episodes' gradient is first compared with finite differences of
 * its objective in double precision by the C library; a difference ends the program with 1. Prints one line of JSON.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LANES = 16, INPUTS = 4, UNITS = 16, HORIZON = 500 };
enum { W1 = 0, B1 = W1 + INPUTS * UNITS, W2 = B1 + UNITS, B2 = W2 + UNITS * UNITS, W3 = B2 + UNITS, B3 = W3 + 2 * UNITS };
enum { PARAMETERS = B3 + 2, BLOCKS = 7 };

#define DISCOUNT 0.999f
#define BLOCK_SECONDS 0.2
#define UNROLL _Pragma("GCC unroll 16")

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

typedef struct {
    Floats observation[INPUTS], first[UNITS], second[UNITS]; /* the inputs and both hidden layers */
    Floats action, score;                                    /* 0 or 1; the derivative of log pi by the logit */
} Step;

typedef struct {
    Step steps[HORIZON];
    Ints lengths;
    int longest;
} Episodes;

static Floats all(float x) { return x - (Floats){0}; }

static Floats where(Ints mask, Floats yes, Floats no) { return (Floats)(((Ints)yes & mask) | ((Ints)no & ~mask)); }

/* Lambert's continued fraction a / b at x / 4, and the formula of the double argument twice, with one division. */
static Floats tanh_of(Floats x) {
    Floats z = x * 0.25f;
    z = where(z < 2.25f, z, all(2.25f));
    z = where(z > -2.25f, z, all(-2.25f));
    Floats square = z * z;
    Floats a = z * (105.f + 10.f * square), b = 105.f + (45.f + square) * square;
    Floats sine = 2.f * a * b, cosine = a * a + b * b;
    return 2.f * sine * cosine / (cosine * cosine + sine * sine);
}

/* The pole's angle is below 0.21 plus one step, where these terms are exact to rounding. */
static Floats sine_of(Floats x) {
    Floats square = x * x;
    return x * (1.f - square * (1.f / 6 - square * (1.f / 120 - square * (1.f / 5040))));
}

static Floats cosine_of(Floats x) {
    Floats square = x * x;
    return 1.f - square * (0.5f - square * (1.f / 24 - square * (1.f / 720 - square * (1.f / 40320))));
}

/* Uniform in [0, 1) by xorshift, one generator a lane: 23 random bits are the fraction of a number in [1, 2). */
static Floats uniform(Bits *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return (Floats)((*state >> 9) | 0x3f800000u) - 1.f;
}

static int any(Ints mask) {
    int32_t bits = 0;
    for (int lane = 0; lane < LANES; lane++) bits |= mask[lane];
    return bits != 0;
}

/* One episode in each lane, until the last has ended. */
static void sample(const float *theta, Bits *random, Episodes *episodes) {
    /* Two logits are one number, their difference, for a softmax. */
    float last[UNITS], bias = theta[B3 + 1] - theta[B3];
    for (int j = 0; j < UNITS; j++) last[j] = theta[W3 + 2 * j + 1] - theta[W3 + 2 * j];
    Floats state[INPUTS];
    for (int i = 0; i < INPUTS; i++) state[i] = uniform(random) * 0.1f - 0.05f;
    Ints alive = ~(Ints){0}, lengths = {0};
    int t = 0;
    for (; t < HORIZON && any(alive); t++) {
        Step *step = &episodes->steps[t];
        Floats first[UNITS], second[UNITS], logit = all(bias);
        UNROLL for (int i = 0; i < INPUTS; i++) step->observation[i] = state[i];
        UNROLL for (int j = 0; j < UNITS; j++) {
            Floats sum = all(theta[B1 + j]);
            for (int i = 0; i < INPUTS; i++) sum += state[i] * theta[W1 + i * UNITS + j];
            first[j] = tanh_of(sum);
        }
        UNROLL for (int j = 0; j < UNITS; j++) second[j] = all(theta[B2 + j]);
        for (int i = 0; i < UNITS; i++) {
            UNROLL for (int j = 0; j < UNITS; j++) second[j] += first[i] * theta[W2 + i * UNITS + j];
        }
        UNROLL for (int j = 0; j < UNITS; j++) {
            second[j] = tanh_of(second[j]);
            logit += second[j] * last[j];
        }
        memcpy(step->first, first, sizeof first);
        memcpy(step->second, second, sizeof second);
        Floats right = 0.5f + 0.5f * tanh_of(0.5f * logit);
        Floats action = where(uniform(random) < right, all(1.f), all(0.f));
        step->action = action;
        step->score = where(alive, action - right, all(0.f));

        Floats speed = state[1], angle = state[2], turning = state[3];
        Floats sine = sine_of(angle), cosine = cosine_of(angle), mass = all(1.1f);
        Floats push = ((2.f * action - 1.f) * 10.f + 0.05f * turning * turning * sine) / mass;
        Floats turn = (9.8f * sine - cosine * push) / (0.5f * (4.f / 3 - 0.1f * cosine * cosine / mass));
        Floats next[INPUTS] = {state[0] + 0.02f * speed, speed + 0.02f * (push - 0.05f * turn * cosine / mass),
                               angle + 0.02f * turning, turning + 0.02f * turn};
        UNROLL for (int i = 0; i < INPUTS; i++) state[i] = where(alive, next[i], state[i]);
        lengths -= alive; /* true is -1 */
        alive &= (state[0] <= 2.4f) & (state[0] >= -2.4f) & (state[2] <= 0.20943951f) & (state[2] >= -0.20943951f);
    }
    episodes->lengths = lengths;
    episodes->longest = t;
}

/* Add the sum over episodes and steps of the discounted reward to go times grad log pi(a|s). */
static void add_gradient(const float *theta, const Episodes *episodes, float *gradient) {
    float last[UNITS], powers[HORIZON];
    for (int j = 0; j < UNITS; j++) last[j] = theta[W3 + 2 * j + 1] - theta[W3 + 2 * j];
    powers[0] = 1.f;
    for (int t = 1; t < episodes->longest; t++) powers[t] = powers[t - 1] * DISCOUNT;
    static Floats sums[PARAMETERS]; /* of W3 and b3, only the second logit's, one after another */
    memset(sums, 0, sizeof sums);
    Floats to_go = {0};
    for (int t = episodes->longest - 1; t >= 0; t--) {
        const Step *step = &episodes->steps[t];
        to_go += where(t < episodes->lengths, all(powers[t]), all(0.f));
        Floats delta = step->score * to_go, deltas[UNITS], inner[UNITS];
        UNROLL for (int j = 0; j < UNITS; j++) {
            Floats h = step->second[j];
            sums[W3 + j] += delta * h;
            deltas[j] = delta * last[j] * (1.f - h * h);
            sums[B2 + j] += deltas[j];
        }
        sums[B3] += delta;
        for (int i = 0; i < UNITS; i++) {
            Floats h = step->first[i], even = {0}, odd = {0}; /* two sums, as each addition waits for the one before */
            UNROLL for (int j = 0; j < UNITS; j += 2) {
                sums[W2 + i * UNITS + j] += h * deltas[j];
                sums[W2 + i * UNITS + j + 1] += h * deltas[j + 1];
                even += theta[W2 + i * UNITS + j] * deltas[j];
                odd += theta[W2 + i * UNITS + j + 1] * deltas[j + 1];
            }
            inner[i] = (even + odd) * (1.f - h * h);
        }
        UNROLL for (int j = 0; j < UNITS; j++) {
            sums[B1 + j] += inner[j];
            for (int i = 0; i < INPUTS; i++) sums[W1 + i * UNITS + j] += step->observation[i] * inner[j];
        }
    }
    for (int p = 0; p <= B3; p++) {
        float total = 0.f;
        for (int lane = 0; lane < LANES; lane++) total += sums[p][lane];
        if (p < W3) {
            gradient[p] += total;
        } else { /* the first logit's derivative is minus the second's; B3 follows the last of W3 */
            int second = p < B3 ? W3 + 2 * (p - W3) + 1 : B3 + 1;
            gradient[second] += total;
            gradient[second - 1] -= total;
        }
    }
}

/* The function whose derivative `add_gradient` takes: the sum of reward to go times log pi, in double precision. */
static double objective(const double *theta, const Episodes *episodes) {
    double total = 0;
    for (int lane = 0; lane < LANES; lane++) {
        double to_go = 0;
        for (int t = episodes->lengths[lane] - 1; t >= 0; t--) {
            const Step *step = &episodes->steps[t];
            double first[UNITS], logits[2] = {theta[B3], theta[B3 + 1]};
            to_go += pow(DISCOUNT, t);
            for (int j = 0; j < UNITS; j++) {
                double sum = theta[B1 + j];
                for (int i = 0; i < INPUTS; i++) sum += step->observation[i][lane] * theta[W1 + i * UNITS + j];
                first[j] = tanh(sum);
            }
            for (int j = 0; j < UNITS; j++) {
                double sum = theta[B2 + j];
                for (int i = 0; i < UNITS; i++) sum += first[i] * theta[W2 + i * UNITS + j];
                for (int k = 0; k < 2; k++) logits[k] += tanh(sum) * theta[W3 + 2 * j + k];
            }
            int action = step->action[lane] > 0.5f;
            total -= to_go * log1p(exp(logits[1 - action] - logits[action]));
        }
    }
    return total;
}

/* The largest difference between the gradient and central finite differences, by the largest derivative. */
static double error(const float *theta, const Episodes *episodes) {
    float gradient[PARAMETERS] = {0};
    double point[PARAMETERS], worst = 0, largest = 0;
    add_gradient(theta, episodes, gradient);
    for (int p = 0; p < PARAMETERS; p++) point[p] = theta[p];
    for (int p = 0; p < PARAMETERS; p += 5) { /* 5 divides no layer's width, so all rows and columns are met */
        point[p] = theta[p] + 1e-5;
        double above = objective(point, episodes);
        point[p] = theta[p] - 1e-5;
        double slope = (above - objective(point, episodes)) / 2e-5;
        point[p] = theta[p];
        worst = fmax(worst, fabs(gradient[p] - slope));
        largest = fmax(largest, fabs(slope));
    }
    return worst / largest;
}

static double seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

int main(int count, char **arguments) {
    static Episodes episodes;
    float theta[PARAMETERS];
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fread(theta, sizeof *theta, PARAMETERS, file) != PARAMETERS) {
        fprintf(stderr, "usage: limit THETA ROWS\n");
        return 2;
    }
    fclose(file);
    int groups = (atoi(arguments[2]) + LANES - 1) / LANES;
    Bits random;
    for (int lane = 0; lane < LANES; lane++) random[lane] = 2654435761u * (lane + 1); /* distinct, none zero */
    for (int warm_up = 0; warm_up < 100; warm_up++) uniform(&random);

    sample(theta, &random, &episodes);
    double difference = error(theta, &episodes);
    if (!(difference < 1e-4)) {
        fprintf(stderr, "the gradient differs from finite differences by %g\n", difference);
        return 1;
    }

    double best = 0, mean[PARAMETERS] = {0};
    long all_steps = 0, num_episodes = 0;
    for (int block = 0; block < BLOCKS; block++) {
        long steps = 0;
        double start = seconds(), spent;
        do {
            for (int group = 0; group < groups; group++) {
                float gradient[PARAMETERS] = {0};
                sample(theta, &random, &episodes);
                add_gradient(theta, &episodes, gradient);
                for (int p = 0; p < PARAMETERS; p++) mean[p] += gradient[p];
                for (int lane = 0; lane < LANES; lane++) steps += episodes.lengths[lane];
                num_episodes += LANES;
            }
            spent = seconds() - start;
        } while (spent < BLOCK_SECONDS);
        best = fmax(best, steps / spent);
        all_steps += steps;
    }
    printf("{\"speed\": %.0f, \"length\": %.3f, \"gradient\": [", best, (double)all_steps / num_episodes);
    for (int p = 0; p < PARAMETERS; p++) printf("%s%.6g", p ? ", " : "", mean[p] / num_episodes);
    printf("]}\n");
    return 0;
}
