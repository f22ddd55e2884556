# docker build -t headstart . && docker run --rm headstart
#
# Any other command of headstart, on the files of a folder of yours:
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" -w /work headstart extract photos/ -o photos.h5
FROM python:3.12-slim AS build
WORKDIR /checkout
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.12-slim
COPY --from=build /wheel /wheel
RUN python -m pip install --no-cache-dir /wheel/*.whl \
    && useradd --create-home headstart \
    && mkdir --mode 1777 /state
# Caches, weights and the list of trusted heads, for whichever user runs it.
ENV HEADSTART_CACHE=/state/cache HEADSTART_STATE=/state/heads KERAS_HOME=/state/keras
USER headstart
WORKDIR /home/headstart
ENTRYPOINT ["headstart"]
CMD ["demo"]
