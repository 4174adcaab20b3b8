# byzbench on CPUs, with the versions of constraints.txt. Runs are kept in the mounted folder:
#   docker build --tag byzbench .
#   docker run --rm --volume "$PWD/runs:/work/runs" byzbench run --algo decbyzpg --attack alie --topology ring
FROM python:3.11-slim

# The wheels of this index have no CUDA libraries, which saves gigabytes. Their local version (+cpu) is the higher one.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt --extra-index-url "$TORCH_INDEX" /src && rm -rf /src

RUN useradd --create-home researcher && install --directory --owner researcher /work /work/runs
USER researcher
WORKDIR /work
ENTRYPOINT ["byzbench"]
CMD ["--help"]
