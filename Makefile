# make run: the demo from weights to evaluation; make test: the tests. Both need Python 3 alone.
# Paddle is installed only where there is none yet: the CPU's and the GPU's overwrite each other.
PYTHON ?= python3
PADDLE ?= -r requirements-paddle.txt
BIN = .venv/bin

.PHONY: run test test-gpu lint bench fuzz demo-data images release docs

run: .venv/run
	$(BIN)/python caffe2paddle.py data/squeezenet_v1.1.caffemodel --output caffe_params --verify
	$(BIN)/python infer.py --model caffe_params data/photos --plot output/photos.png
	$(BIN)/python train.py --model caffe_params --trainer auto --batch_size 16 --overwrite
	$(BIN)/python infer.py --model output/best --val_list data/val.txt
	$(BIN)/python infer.py --model data/squeezenet_v1.1.sqz data/photos
	$(BIN)/python compress.py --model output/best --pictures data/textures/train/*/192_* \
	    --val_list data/val.txt --size 60000 --output output/best.sqz
	$(BIN)/python export.py --model output/best.sqz --to page --output output/page.html

test: .venv/dev
	$(BIN)/python -m pytest

test-gpu: .venv/dev
	$(BIN)/python -m pytest -rs tests/gpu

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/bench
	$(BIN)/python benchmarks/run_all.py

fuzz: .venv/dev
	$(BIN)/python tests/hostile/fuzz.py

demo-data: .venv/dev
	$(BIN)/python data/make_demo.py

docs: .venv/dev
	$(BIN)/python docs/make_commands.py
	$(BIN)/python export.py --model data/squeezenet_v1.1.sqz --to page --output docs/demo.html
	$(BIN)/python export.py --to teach --output docs/teach.html

# What people may take without Python: the bundled network in each form. int8 is made where CALIBRATE
# names a list of pictures like those that it will see, ncnn where pnnx is installed.
CALIBRATE ?=
release: .venv/dev
	rm -rf dist && mkdir -p dist/ncnn
	cp data/squeezenet_v1.1.sqz docs/demo.html docs/teach.html dist
	$(BIN)/python export.py --to onnx --preprocessing --output dist/squeezenet_v1.1.onnx
	test -z '$(CALIBRATE)' || $(BIN)/python export.py --to onnx_int8 --preprocessing \
	    --calibrate '$(CALIBRATE)' --output dist/squeezenet_v1.1_int8.onnx
	$(BIN)/python export.py --to paddle --output dist/paddle_inference
	$(BIN)/python export.py --to onnx --output dist/ncnn/squeezenet.onnx
	cd dist/ncnn && for pnnx in $(CURDIR)/.venv/lib/python3*/site-packages/pnnx/pnnx; do \
	    test ! -x $$pnnx || $$pnnx squeezenet.onnx 'inputshape=[1,3,227,227]' fp16=0 >/dev/null; done
	cd dist/ncnn && find . -type f ! -name '*.ncnn.param' ! -name '*.ncnn.bin' -delete
	find dist -type d -empty -delete
	cd dist && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum > SHA256SUMS

images: run
	$(BIN)/python images/draw_architecture.py
	$(BIN)/python images/draw_architecture.py --version 1.0
	$(BIN)/python infer.py --model caffe_params data/photos --plot images/photos.jpg
	$(BIN)/python train.py --model caffe_params --recipe caffe --trainer auto --batch_size 16 \
	    --output output/caffe --overwrite
	cp output/caffe/curves.png images/curves.png
	$(BIN)/python images/show_page.py docs/demo.html data/photos/coffee.jpg images/page.png

.venv/run: requirements.txt requirements-paddle.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements.txt
	$(BIN)/python -c 'import paddle' 2>/dev/null || $(BIN)/pip install -q $(PADDLE)
	touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/pip install -q -r requirements-dev.txt
	touch $@

.venv/bench: benchmarks/requirements-bench.txt .venv/run
	$(BIN)/pip install -q -r benchmarks/requirements-bench.txt
	touch $@
